"""The engine: one model behind admission, hot reload and metrics. What it says is `lpm_kernel`'s business."""
