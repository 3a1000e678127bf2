"""A stand-in for a Weaviate server on loopback: it speaks the wire format that Weaviate's own client is built for.

Belongs here: the REST paths and gRPC calls as far as they are used, with what of them hurts: tenants that must be made and may
sleep, refusals inside a batch, boosts that must be whole numbers, halves of a hybrid search that see only their best, a cursor
that takes no filter, hits of one score in any order.
Does not belong here: tests; they are in `contracts/test_vectors.py` and `stores/test_weaviate.py`.
"""

from __future__ import annotations

import math
import re
import threading
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict
from weaviate.proto.v1 import (  # noqa: TID253 - whoever imports this server wants it
    base_pb2,
    base_search_pb2,
    batch_delete_pb2,
    batch_pb2,
    health_weaviate_pb2,
    properties_pb2,
    search_get_pb2,
    weaviate_pb2_grpc,
)

from tests.json_server import JsonServer

VERSION = "1.34.0"
HYBRID_LEAST = 100
STOPWORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to "
        "was will with",
    )
)
_WORD = re.compile(r"[^\W_]+")
_TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(slots=True)
class Stored:
    properties: dict[str, Any]
    vectors: dict[str, np.ndarray]


@dataclass(slots=True)
class Collection:
    config: dict[str, Any]
    tenants: dict[str, str]
    objects: dict[str, dict[str, Stored]]


class WeaviateServer(JsonServer):
    """Start with `with`. What it was asked lies in `calls`: the name of the call and its consistency level."""

    def __init__(self, api_key: str = "wv-key", maximum_results: int = 10_000) -> None:
        self.api_key = api_key
        self.maximum_results = maximum_results
        self.collections: dict[str, Collection] = {}
        self.calls: list[tuple[str, str]] = []
        self.failing: grpc.StatusCode | None = None
        """The status that every search, batch and deletion is answered with, from now on."""
        self.failing_http: int | None = None
        self.refused: tuple[str, str] | None = None
        """A word, and what a batch is told of each object whose text holds it."""
        self.explains = True
        self.lock = threading.RLock()
        super().__init__()
        self._grpc = grpc.server(ThreadPoolExecutor(4))
        weaviate_pb2_grpc.add_WeaviateServicer_to_server(_Service(self), self._grpc)
        self._grpc.add_generic_rpc_handlers((_health(),))
        port = self._grpc.add_insecure_port("127.0.0.1:0")
        self.grpc_url = f"http://127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self._grpc.start()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        self._grpc.stop(0).wait()
        super().__exit__()

    def respond(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        with self.lock:
            known = headers.get("Authorization") == f"Bearer {self.api_key}"
            if not known and "/.well-known/" not in path:
                return 401, _error("anonymous access not enabled")
            if self.failing_http and "schema" in path:
                return self.failing_http, _error("told to")
            return self.rest(method, path.partition("?")[0], body)

    def rest(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        match method, path.strip("/").split("/"):
            case "GET", ["v1", ".well-known", "live"]:
                return 200, {}
            case "GET", ["v1", "meta"]:
                return 200, {"version": VERSION, "hostname": self.url, "modules": {}}
            case "GET", ["v1", "schema"]:
                return 200, {"classes": [collection.config for collection in self.collections.values()]}
            case "POST", ["v1", "schema"]:
                return self._create(body)
            case "GET", ["v1", "schema", name] if name in self.collections:
                return 200, self.collections[name].config
            case "POST", ["v1", "schema", name, "properties"] if name in self.collections:
                self.collections[name].config["properties"].append({"indexSearchable": False, "indexFilterable": True, **body})
                return 200, body
            case "POST" | "PUT", ["v1", "schema", name, "tenants"] if name in self.collections:
                return self._tenants(self.collections[name], body)
            case "DELETE", ["v1", "schema", name, "tenants"] if name in self.collections:
                for tenant in body:
                    self.collections[name].tenants.pop(tenant, None)
                    self.collections[name].objects.pop(tenant, None)
                return 200, None
            case "GET", ["v1", "schema", name, "tenants", tenant] if name in self.collections:
                status = self.collections[name].tenants.get(tenant)
                return (200, {"name": tenant, "activityStatus": status}) if status else (404, _error("tenant not found"))
        return 404, _error("not found")

    def _create(self, config: dict[str, Any]) -> tuple[int, Any]:
        name = config["class"]
        if name in self.collections:
            return 422, _error(f"class name {name} already exists")
        if not re.fullmatch(r"[A-Z][_0-9A-Za-z]*", name):
            return 422, _error(f"'{name}' is not a valid class name")
        self.collections[name] = Collection(_with_defaults(config), {}, {})
        return 200, self.collections[name].config

    def _tenants(self, collection: Collection, body: Any) -> tuple[int, Any]:
        names = [tenant["name"] for tenant in body]
        if not all(_TENANT.fullmatch(name) for name in names):
            return 422, _error("tenant names must match [A-Za-z0-9_-]{1,64}")
        for tenant in body:
            collection.tenants[tenant["name"]] = tenant.get("activityStatus") or "ACTIVE"
            collection.objects.setdefault(tenant["name"], {})
        return 200, body

    def tenant(self, name: str, tenant: str) -> dict[str, Stored] | str:
        """The objects of a tenant, or why there are none to be had."""
        collection = self.collections.get(name)
        if collection is None:
            return f"could not find class {name} in schema"
        if tenant not in collection.tenants:
            return f'tenant not found: "{tenant}"'
        if collection.tenants[tenant] != "ACTIVE":
            if not collection.config["multiTenancyConfig"]["autoTenantActivation"]:
                return f'tenant not active: "{tenant}"'
            collection.tenants[tenant] = "ACTIVE"
        return collection.objects[tenant]


class _Service(weaviate_pb2_grpc.WeaviateServicer):
    def __init__(self, server: WeaviateServer) -> None:
        self._server = server

    def BatchObjects(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note("BatchObjects", request, context)
        errors: list[Any] = []
        with self._server.lock:
            for index, item in enumerate(request.objects):
                wrong = self._put(item)
                if wrong:
                    errors.append(batch_pb2.BatchObjectsReply.BatchError(index=index, error=wrong))
        return batch_pb2.BatchObjectsReply(took=0.001, errors=errors)

    def _put(self, item: Any) -> str | None:
        objects = self._server.tenant(item.collection, item.tenant)
        if isinstance(objects, str):
            return objects
        properties = _properties_of(item.properties)
        if self._server.refused and self._server.refused[0] in properties["text"]:
            return self._server.refused[1]
        vectors = {vector.name: np.frombuffer(vector.vector_bytes, dtype=np.float32) for vector in item.vectors}
        for name, vector in vectors.items():
            dims = {len(other.vectors[name]) for other in objects.values()}
            if dims and dims != {len(vector)}:
                return f"vector lengths don't match: {dims} vs {len(vector)}"
        objects[str(uuid.UUID(item.uuid))] = Stored(properties, vectors)
        return None

    def BatchDelete(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note("BatchDelete", request, context)
        with self._server.lock:
            objects = self._tenant(request, context)
            matching = _filtered(objects, request.filters, context)[: self._server.maximum_results]
            for object_id in matching:
                del objects[object_id]
        return batch_delete_pb2.BatchDeleteReply(matches=len(matching), successful=len(matching))

    def Search(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note("Search", request, context)
        with self._server.lock:
            objects = self._tenant(request, context)
            if request.limit > self._server.maximum_results:
                _abort(context, "query maximum results exceeded")
            if request.after and request.HasField("filters"):
                _abort(context, "where filters cannot be set with after and limit parameters")
            ids = _filtered(objects, request.filters, context) if request.HasField("filters") else sorted(objects)
            if request.HasField("hybrid_search"):
                scored = _hybrid(objects, ids, request.hybrid_search, request.limit, context)
            else:
                scored = [(i, None, None) for i in sorted(ids) if i > request.after][: request.limit]
            results = [self._result(request, i, objects[i], score, why) for i, score, why in scored]
        return search_get_pb2.SearchReply(took=0.001, results=results)

    def _result(self, request: Any, object_id: str, stored: Stored, score: float | None, why: str | None) -> Any:
        metadata = search_get_pb2.MetadataResult(id_as_bytes=uuid.UUID(object_id).bytes)
        if score is not None and request.metadata.score:
            metadata.score, metadata.score_present = score, True
        if why is not None and request.metadata.explain_score:
            metadata.explain_score, metadata.explain_score_present = (why if self._server.explains else "score 1"), True
        for name in request.metadata.vectors:
            metadata.vectors.add(
                name=name, vector_bytes=stored.vectors[name].tobytes(), type=base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32
            )
        every = not request.HasField("properties") or request.properties.return_all_nonref_properties
        wanted = stored.properties if every else request.properties.non_ref_properties
        fields = {name: _value(stored.properties[name]) for name in wanted}
        properties = search_get_pb2.PropertiesResult(non_ref_props=properties_pb2.Properties(fields=fields))
        return search_get_pb2.SearchResult(properties=properties, metadata=metadata)

    def _note(self, call: str, request: Any, context: grpc.ServicerContext) -> None:
        level = base_pb2.ConsistencyLevel.Name(request.consistency_level).removeprefix("CONSISTENCY_LEVEL_")
        self._server.calls.append((call, level))
        if ("authorization", f"Bearer {self._server.api_key}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "unauthorized: invalid api key")
        if self._server.failing:
            context.abort(self._server.failing, "told to")

    def _tenant(self, request: Any, context: grpc.ServicerContext) -> dict[str, Stored]:
        objects = self._server.tenant(request.collection, request.tenant)
        if isinstance(objects, str):
            _abort(context, objects)
        return objects


def _hybrid(
    objects: Mapping[str, Stored], ids: Sequence[str], asked: Any, limit: int, context: grpc.ServicerContext
) -> list[tuple[str, float, str]]:
    """Each half finds its best, is stretched over 0 to 1 by what it found, and counts by its share; all equal count in full."""
    if asked.fusion_type != base_search_pb2.Hybrid.FUSION_TYPE_RELATIVE_SCORE:
        _abort(context, "this stand-in knows relative score fusion only")
    least = max(limit, HYBRID_LEAST)
    halves: list[tuple[str, float, dict[str, float]]] = []
    if asked.alpha > 0:
        (target,) = asked.targets.target_vectors or asked.target_vectors
        vector = np.frombuffer(asked.vector_bytes, dtype=np.float32)
        halves.append(("vector,hybridVector", asked.alpha, _near(objects, ids, target, vector, least)))
    if asked.alpha < 1:
        halves.append(("keyword,bm25", 1 - asked.alpha, _bm25f(objects, ids, asked.query, asked.properties, least)))
    total: dict[str, float] = {}
    why: dict[str, str] = {}
    for half, share, scores in halves:
        low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
        for object_id, score in scores.items():
            part = share * ((score - low) / (high - low) if high > low else 1.0)
            words = f"Hybrid (Result Set {half}) Document {object_id}: original score {score:.8g}, normalized score: {part:.8g}"
            total[object_id] = total.get(object_id, 0.0) + part
            why[object_id] = "\n" + words + (f" - {why[object_id]}" if object_id in why else "")
    order = sorted(total, key=lambda i: (-total[i], uuid.UUID(i).int % 9973))  # ties: in no order that anybody knows
    return [(i, total[i], why[i]) for i in order[:limit]]


def _near(objects: Mapping[str, Stored], ids: Sequence[str], target: str, vector: np.ndarray, limit: int) -> dict[str, float]:
    cosines = {
        i: float(objects[i].vectors[target] @ vector / np.linalg.norm(objects[i].vectors[target]) / np.linalg.norm(vector))
        for i in ids
    }
    return dict(sorted(cosines.items(), key=lambda item: -item[1])[:limit])


def _bm25f(
    objects: Mapping[str, Stored], ids: Sequence[str], query: str, properties: Sequence[str], limit: int
) -> dict[str, float]:
    """One frequency a word over all properties, each times its boost; rarity over the whole tenant. A boost is a whole number,
    and what is none counts as 0."""
    boosts = {
        name: int(boost or "1") if (boost or "1").isdigit() else 0 for name, _, boost in (p.partition("^") for p in properties)
    }
    words = {i: {name: Counter(_words(stored.properties[name])) for name in boosts} for i, stored in objects.items()}
    lengths = {i: {name: count.total() for name, count in counts.items()} for i, counts in words.items()}
    mean = max(1e-9, sum(sum(length.values()) for length in lengths.values()) / max(1, len(objects)) / len(boosts))
    scores: dict[str, float] = {}
    for word in set(_words(query)) - STOPWORDS:
        holders = [i for i, counts in words.items() if any(count[word] for count in counts.values())]
        rarity = math.log(1 + (len(objects) - len(holders) + 0.5) / (len(holders) + 0.5))
        for i in set(holders) & set(ids):
            times = sum(boost * words[i][name][word] for name, boost in boosts.items())
            length = sum(lengths[i][name] for name in boosts if words[i][name][word])
            scores[i] = scores.get(i, 0.0) + rarity * times / (times + 1.2 * (0.25 + 0.75 * length / mean))
    return dict(sorted(scores.items(), key=lambda item: -item[1])[:limit])


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _filtered(objects: Mapping[str, Stored], filters: Any, context: grpc.ServicerContext) -> list[str]:
    if filters.operator == base_pb2.Filters.OPERATOR_AND:
        parts = [set(_filtered(objects, part, context)) for part in filters.filters]
        return sorted(set(objects).intersection(*parts))
    if filters.operator == base_pb2.Filters.OPERATOR_NOT_EQUAL:
        name, unwanted = filters.target.property, filters.value_text
        return sorted(i for i, stored in objects.items() if stored.properties[name] != unwanted)
    wanted = set(filters.value_text_array.values)
    if filters.operator != base_pb2.Filters.OPERATOR_CONTAINS_ANY:
        _abort(context, "this stand-in knows And, NotEqual and ContainsAny only")
    if filters.target.property == "_id":
        return sorted(i for i in objects if i in wanted)
    return sorted(i for i, stored in objects.items() if wanted & set(stored.properties[filters.target.property]))


def _properties_of(sent: Any) -> dict[str, Any]:
    values = MessageToDict(sent.non_ref_properties)
    for number in ("chunk_index", "byte_start", "byte_end"):
        values[number] = int(values[number])
    for array in sent.text_array_properties:
        values[array.prop_name] = list(array.values)
    return values


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return properties_pb2.Value(list_value=properties_pb2.ListValue(text_values=properties_pb2.TextValues(values=value)))
    return properties_pb2.Value(int_value=value) if isinstance(value, int) else properties_pb2.Value(text_value=value)


def _with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """What the server adds to a collection's configuration, as far as the client looks for it."""
    inverted = {
        "cleanupIntervalSeconds": 60,
        "stopwords": {"preset": "en", "additions": None, "removals": None},
        **config.get("invertedIndexConfig", {}),
    }
    vectors = {
        name: {**vector, "vectorIndexConfig": {"vectorCacheMaxObjects": 1_000_000, **vector["vectorIndexConfig"]}}
        for name, vector in config["vectorConfig"].items()
    }
    return {
        "replicationConfig": {"factor": 1, "asyncEnabled": False, "deletionStrategy": "NoAutomatedResolution"},
        "shardingConfig": {},
        **config,
        "properties": [{"indexSearchable": False, "indexFilterable": True, **item} for item in config["properties"]],
        "invertedIndexConfig": inverted,
        "vectorConfig": vectors,
    }


def _error(message: str) -> dict[str, Any]:
    return {"error": [{"message": message}]}


def _abort(context: grpc.ServicerContext, words: str) -> NoReturn:
    context.abort(grpc.StatusCode.UNKNOWN, words)
    raise AssertionError("abort raises")


def _health() -> grpc.GenericRpcHandler:
    def check(request: Any, context: grpc.ServicerContext) -> Any:
        return health_weaviate_pb2.WeaviateHealthCheckResponse(status="SERVING")

    return grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health",
        {
            "Check": grpc.unary_unary_rpc_method_handler(
                check,
                request_deserializer=health_weaviate_pb2.WeaviateHealthCheckRequest.FromString,
                response_serializer=health_weaviate_pb2.WeaviateHealthCheckResponse.SerializeToString,
            )
        },
    )
