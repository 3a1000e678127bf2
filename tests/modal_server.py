"""A stand-in for Modal's control plane on loopback: Modal's own client speaks to it over gRPC.

Real: the client, its wire format, retries and errors; functions, generators and methods of a class, which run in threads of
this process. Not real: containers and how they scale, images, GPUs, volumes and secrets (their declarations are kept and
compared, nothing is built), a class's enter and exit, tries after a crash, and a container's end when its call is cancelled:
its thread goes on unheard.

Belongs here: the answers to what deploying, calling, polling, cancelling and queues ask for.
Does not belong here: what the tests expect.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Self

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from grpclib.server import Server
from modal_proto import api_grpc
from modal_proto import api_pb2 as api

TOKEN = ("ak-of-the-tests", "as-of-the-tests")


def _servicer(server: ModalServer) -> Any:
    """Every method of the service: a method of the server by its name in snake case, or a refusal."""
    methods = {name: _handler(server, name) for name in api_grpc.ModalClientBase.__abstractmethods__}
    return type("Servicer", (api_grpc.ModalClientBase,), methods)()


def _handler(server: ModalServer, name: str) -> Callable[..., Any]:
    respond = getattr(server, re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(), None)

    async def answer(_: Any, stream: Any) -> None:
        request = await stream.recv_message()
        metadata = dict(stream.metadata)
        server.asked.append(name)
        if (metadata.get("x-modal-token-id"), metadata.get("x-modal-token-secret")) != TOKEN:
            raise GRPCError(Status.UNAUTHENTICATED, "no such token")
        while name in server.silent:
            await asyncio.sleep(0.02)
        if faults := server.faults[name]:
            raise faults.pop(0)
        if name == "FunctionCallGetDataOut":
            await server.send_pieces(request, stream)
            return
        if respond is None:
            raise GRPCError(Status.UNIMPLEMENTED, f"the stand-in does not know {name}")
        await stream.send_message(respond(request))

    return answer


def _handle(function: str, methods: Mapping[str, api.MethodDefinition] | None = None) -> api.FunctionHandleMetadata:
    of_methods = {
        name: api.FunctionHandleMetadata(
            function_name=method.function_name, function_type=method.function_type, is_method=True, use_method_name=name
        )
        for name, method in (methods or {}).items()
    }
    return api.FunctionHandleMetadata(
        function_name=function, function_type=api.Function.FUNCTION_TYPE_FUNCTION, method_handle_metadata=of_methods
    )


def _data(function: api.Function) -> api.FunctionData:
    return api.FunctionData(ranked_functions=[api.FunctionData.RankedFunction(function=function)])


def _run(call: Call, body: Callable[..., Any]) -> None:
    try:
        given = body(*call.arguments)
        if inspect.isgenerator(given):
            with contextlib.closing(given):
                for piece in given:
                    if call.cancelled is not None:
                        return
                    call.pieces.append(piece)
            call.finish_generator()
        else:
            call.finish(given)
    except Exception as error:
        call.fail(error)


class Call:
    """One call of a function. `finish` may be called once, by whoever runs it; nothing after a cancellation counts."""

    def __init__(self, call_id: str, function: str, arguments: tuple[Any, ...]) -> None:
        self.call_id = call_id
        self.function = function
        self.arguments = arguments
        self.cancelled: bool | None = None
        """Whether its containers were to end too."""
        self.output: api.FunctionGetOutputsItem | None = None
        self.polls = 0
        self.pieces: list[Any] = []
        """Of a generator, so far."""

    def finish_generator(self) -> None:
        done = api.GeneratorDone(items_total=len(self.pieces)).SerializeToString()
        result = api.GenericResult(status=api.GenericResult.GENERIC_STATUS_SUCCESS, data=done)
        if self.cancelled is None:
            self.output = api.FunctionGetOutputsItem(result=result, data_format=api.DATA_FORMAT_GENERATOR_DONE, idx=0)

    def finish(self, value: Any) -> None:
        import cloudpickle

        self._end(api.GenericResult(status=api.GenericResult.GENERIC_STATUS_SUCCESS, data=cloudpickle.dumps(value)))

    def fail(self, error: BaseException | None = None, status: int = api.GenericResult.GENERIC_STATUS_FAILURE) -> None:
        import cloudpickle

        data = b"" if error is None else cloudpickle.dumps(error)
        self._end(api.GenericResult(status=status, exception=repr(error), data=data))  # type: ignore[arg-type]

    def _end(self, result: api.GenericResult) -> None:
        if self.cancelled is None:
            self.output = api.FunctionGetOutputsItem(result=result, data_format=api.DATA_FORMAT_PICKLE, idx=0)


class ModalServer:
    """Start with `with`. A function that nobody gave with `serve` is deployed, and its calls wait until a test ends them."""

    def __init__(self) -> None:
        self.apps: dict[str, set[str]] = defaultdict(set)
        self.definitions: dict[str, api.Function] = {}
        self.images: list[api.Image] = []
        self.secrets: list[api.SecretGetOrCreateRequest] = []
        self.volumes: list[str] = []
        self.files: set[str] = set()
        self.calls: list[Call] = []
        self.queues: dict[tuple[str, bytes], list[bytes]] = defaultdict(list)
        self.asked: list[str] = []
        self.silent: set[str] = set()
        self.faults: dict[str, list[GRPCError]] = defaultdict(list)
        self._bodies: dict[str, Callable[..., Any]] = {}
        self._started = threading.Event()
        self.url = ""

    def serve(self, app: str, function: str, body: Callable[..., Any] | None = None) -> None:
        self.apps[app].add(function)
        if body is not None:
            self._bodies[function] = body

    def serve_class(self, app: str, name: str, methods: Mapping[str, Callable[..., Any]]) -> None:
        """A deployed class whose one instance has these methods; a generator among them gives its pieces as it makes them."""
        service = f"{name}.*"
        self.apps[app].add(service)
        for method, body in methods.items():
            streams = inspect.isgeneratorfunction(body) or method == "stream"
            kind = api.Function.FUNCTION_TYPE_GENERATOR if streams else api.Function.FUNCTION_TYPE_FUNCTION
            known = self.definitions.setdefault(service, api.Function(function_name=service))
            definition = api.MethodDefinition(function_name=f"{name}.{method}", function_type=kind)
            known.method_definitions[method].CopyFrom(definition)
            self._bodies[f"{name}.{method}"] = body

    def put(self, queue: str, partition: str, item: Any) -> None:
        """As a container puts it, without its client."""
        import cloudpickle

        self.queues[f"qu-{queue}", partition.encode()].append(cloudpickle.dumps(item))

    # what the client asks

    def function_get(self, request: api.FunctionGetRequest) -> api.FunctionGetResponse:
        if request.object_tag not in self.apps[request.app_name]:
            raise GRPCError(Status.NOT_FOUND, f"{request.app_name} has no {request.object_tag}")
        function = self.definitions.get(request.object_tag, api.Function(function_name=request.object_tag))
        return api.FunctionGetResponse(
            function_id=f"fu-{request.object_tag}",
            function=_data(function),
            handle_metadata=_handle(request.object_tag, function.method_definitions),
        )

    def class_get(self, request: api.ClassGetRequest) -> api.ClassGetResponse:
        if f"{request.object_tag}.*" not in self.apps[request.app_name]:
            raise GRPCError(Status.NOT_FOUND, f"{request.app_name} has no {request.object_tag}")
        return api.ClassGetResponse(class_id=f"cs-{request.object_tag}")

    def class_create(self, request: api.ClassCreateRequest) -> api.ClassCreateResponse:
        return api.ClassCreateResponse(class_id="cs-1")

    async def send_pieces(self, request: api.FunctionCallGetDataRequest, stream: Any) -> None:
        """What a generator has given, as it gives it; the client goes away when it has all."""
        import cloudpickle

        call, sent = self._call(request.function_call_id), int(request.last_index)
        while call.cancelled is None:
            for number, piece in enumerate(call.pieces[sent:], sent + 1):
                chunk = api.DataChunk(data_format=api.DATA_FORMAT_PICKLE, data=cloudpickle.dumps(piece), index=number)
                await stream.send_message(chunk)
                sent = number
            await asyncio.sleep(0.002)

    def function_map(self, request: api.FunctionMapRequest) -> api.FunctionMapResponse:
        import cloudpickle

        (item,) = request.pipelined_inputs
        arguments, _ = cloudpickle.loads(item.input.args)
        function = request.function_id.removeprefix("fu-")
        if item.input.method_name:
            function = function.removesuffix("*") + item.input.method_name
        call = Call(f"fc-{len(self.calls)}", function, arguments)
        self.calls.append(call)
        if body := self._bodies.get(call.function):
            threading.Thread(target=_run, args=(call, body), daemon=True).start()
        inputs = [api.FunctionPutInputsResponseItem(idx=0, input_id=f"in-{call.call_id}")]
        return api.FunctionMapResponse(function_call_id=call.call_id, pipelined_inputs=inputs)

    def function_get_outputs(self, request: api.FunctionGetOutputsRequest) -> api.FunctionGetOutputsResponse:
        call = self._call(request.function_call_id)
        call.polls += 1
        if call.output is None:
            return api.FunctionGetOutputsResponse(num_unfinished_inputs=1)
        return api.FunctionGetOutputsResponse(outputs=[call.output])

    def function_call_cancel(self, request: api.FunctionCallCancelRequest) -> Empty:
        call = self._call(request.function_call_id)
        if call.output is None:
            call.cancelled = request.terminate_containers
        return Empty()

    def queue_get_or_create(self, request: api.QueueGetOrCreateRequest) -> api.QueueGetOrCreateResponse:
        name = request.deployment_name
        return api.QueueGetOrCreateResponse(queue_id=f"qu-{name}", metadata=api.QueueMetadata(name=name))

    def queue_put(self, request: api.QueuePutRequest) -> Empty:
        self.queues[request.queue_id, request.partition_key].extend(request.values)
        return Empty()

    def queue_get(self, request: api.QueueGetRequest) -> api.QueueGetResponse:
        waiting = self.queues[request.queue_id, request.partition_key]
        taken, waiting[:] = waiting[: request.n_values], waiting[request.n_values :]
        return api.QueueGetResponse(values=taken)

    # what a deployment asks

    def app_get_by_deployment_name(self, _: api.AppGetByDeploymentNameRequest) -> api.AppGetByDeploymentNameResponse:
        return api.AppGetByDeploymentNameResponse()

    def environment_get_or_create(self, _: api.EnvironmentGetOrCreateRequest) -> api.EnvironmentGetOrCreateResponse:
        settings = api.EnvironmentSettings(image_builder_version="2025.06")
        return api.EnvironmentGetOrCreateResponse(
            environment_id="en-1", metadata=api.EnvironmentMetadata(name="main", settings=settings)
        )

    def app_create(self, request: api.AppCreateRequest) -> api.AppCreateResponse:
        return api.AppCreateResponse(app_id=f"ap-{request.description}")

    def mount_batched_check_existence(self, request: Any) -> Any:
        return api.MountBatchedCheckExistenceResponse()

    def app_heartbeat(self, _: api.AppHeartbeatRequest) -> Empty:
        return Empty()

    def app_client_disconnect(self, _: api.AppClientDisconnectRequest) -> Empty:
        return Empty()

    def image_get_or_create(self, request: api.ImageGetOrCreateRequest) -> api.ImageGetOrCreateResponse:
        self.images.append(request.image)
        done = api.GenericResult(status=api.GenericResult.GENERIC_STATUS_SUCCESS)
        metadata = api.ImageMetadata(image_builder_version="2025.06")
        return api.ImageGetOrCreateResponse(image_id=f"im-{len(self.images)}", result=done, metadata=metadata)

    def mount_put_file(self, _: api.MountPutFileRequest) -> api.MountPutFileResponse:
        return api.MountPutFileResponse(exists=True)

    def mount_get_or_create(self, request: api.MountGetOrCreateRequest) -> api.MountGetOrCreateResponse:
        self.files.update(file.filename for file in request.files)
        return api.MountGetOrCreateResponse(
            mount_id="mo-1", handle_metadata=api.MountHandleMetadata(content_checksum_sha256_hex="0")
        )

    def secret_get_or_create(self, request: api.SecretGetOrCreateRequest) -> api.SecretGetOrCreateResponse:
        self.secrets.append(request)
        metadata = api.SecretMetadata(name=request.deployment_name)
        return api.SecretGetOrCreateResponse(secret_id=f"st-{request.deployment_name}", metadata=metadata)

    def volume_get_or_create(self, request: api.VolumeGetOrCreateRequest) -> api.VolumeGetOrCreateResponse:
        self.volumes.append(request.deployment_name)
        metadata = api.VolumeMetadata(name=request.deployment_name)
        return api.VolumeGetOrCreateResponse(volume_id=f"vo-{request.deployment_name}", metadata=metadata)

    def function_precreate(self, request: api.FunctionPrecreateRequest) -> api.FunctionPrecreateResponse:
        metadata = _handle(request.function_name, request.method_definitions)
        return api.FunctionPrecreateResponse(function_id=f"fu-{request.function_name}", handle_metadata=metadata)

    def function_create(self, request: api.FunctionCreateRequest) -> api.FunctionCreateResponse:
        function = request.function
        self.definitions[function.function_name] = function
        self.apps[request.app_id.removeprefix("ap-")].add(function.function_name)
        metadata = _handle(function.function_name, function.method_definitions)
        return api.FunctionCreateResponse(
            function_id=f"fu-{function.function_name}",
            function=function,
            function_data=_data(function),
            handle_metadata=metadata,
        )

    def app_publish(self, _: api.AppPublishRequest) -> api.AppPublishResponse:
        return api.AppPublishResponse(url="https://modal.invalid/apps", deployed_at=1.0)

    def _call(self, call_id: str) -> Call:
        return next(call for call in self.calls if call.call_id == call_id)

    # start and stop

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), daemon=True)
        self._thread.start()
        assert self._started.wait(10)
        return self

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = Server([_servicer(self)])
        await server.start("127.0.0.1", 0)
        assert server._server is not None
        self.url = f"http://127.0.0.1:{server._server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._end.wait()
        for listener in server._server.sockets:
            self._loop.remove_reader(listener.fileno())
        for _ in range(2):  # what was accepted a moment ago gets its transport: of a closed server it gets none, and stays open
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()
        others = asyncio.all_tasks() - {asyncio.current_task()}  # of calls, and of connections that came meanwhile
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for transport in (mine := list(self._loop._transports.values())):  # type: ignore[attr-defined]  # the server leaves them
            transport.abort()
        while any(transport._sock is not None for transport in mine):  # each closes its socket in a turn of the loop
            await asyncio.sleep(0.001)

    def __exit__(self, *_: object) -> None:
        self.silent.clear()
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
