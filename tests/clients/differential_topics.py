"""Topics as raw requests see them, beside a real Kafka: creating, deleting, growing, describing."""
from differential import scenario

OLDEST_TO_NEWEST = (2, 4, 5, 7)


@scenario
def created(both):
    for version in OLDEST_TO_NEWEST:
        name = both.name(f"plain{version}")
        body = {"topics": [{"name": name, "numPartitions": 2, "replicationFactor": 1}], "timeoutMs": 9000}
        both.call("CREATE_TOPICS", version, body, ignore=["topics[*].configs[*]"])
        both.call("CREATE_TOPICS", version, body)
