"""OpenAI's wire format: its forms, its errors, and how its talks become turns of a twin."""
