"""Configs, quotas, credentials and features as raw requests see them, beside a real Kafka."""
from differential import ABSENT, RESPONSE, SILENT, scenario
from differential_topics import create, topic

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3
DESCRIBE_VERSIONS = (1, 2, 4)

# Kafka's own start sets it for all brokers.
MIN_ISR = ["results[*].configs[min.insync.replicas].configSource", "results[*].configs[min.insync.replicas].synonyms[*]",
           "results[*].configs[min.insync.replicas].synonyms[*].source"]
SILENCE = {"": ("kafka-breaks", SILENT, RESPONSE)}
EMPTY_NAME = {"responses[2 ''].errorCode": ("empty-topic-name", "INVALID_REQUEST", "INVALID_TOPIC_EXCEPTION")}


def describe(both, version, *resources, options=None, **more):
    named = [{"resourceType": kind, "resourceName": name, "configurationKeys": keys} for kind, name, keys in resources]
    options = {"ignore": MIN_ISR} | (options or {})
    return both.call("DESCRIBE_CONFIGS", version, {"resources": named, **more}, **options)


def alter(both, version, *resources, only=False, options=None):
    named = [{"resourceType": kind, "resourceName": name, "configs": [{"name": key, "value": value} for key, value in configs]} for kind, name, configs in resources]
    return both.call("ALTER_CONFIGS", version, {"resources": named, "validateOnly": only}, **(options or {}))


def change(both, version, *resources, only=False, options=None):
    named = [{"resourceType": kind, "resourceName": name,
              "configs": [{"name": key, "configOperation": operation, "value": value} for key, operation, value in configs]} for kind, name, configs in resources]
    return both.call("INCREMENTAL_ALTER_CONFIGS", version, {"resources": named, "validateOnly": only}, **(options or {}))


def of(both, kind, name, *keys, options=None):
    """What is set now."""
    return describe(both, 4, (kind, name, list(keys) or None), options=options)


@scenario
def of_topics_described(both):
    name = both.name("told")
    create(both, 7, topic(name, configs=[{"name": "retention.ms", "value": "60000"}, {"name": "cleanup.policy", "value": "compact"}]))
    for version in DESCRIBE_VERSIONS:
        describe(both, version, (TOPIC, name, None))
        describe(both, version, (TOPIC, name, None), includeSynonyms=True)
        describe(both, version, (TOPIC, name, []))
        describe(both, version, (TOPIC, name, ["retention.ms", "no.such.config", "retention.ms"]), includeSynonyms=True)
        describe(both, version, (TOPIC, name, ["segment.bytes"]), (TOPIC, name, ["retention.ms"]), options={"differs": {
            "results[*'].errorCode": ("described-once", "NONE", "INVALID_REQUEST"), "results[*'].configs[retention.ms]": ("described-once", ..., ABSENT)}})
        describe(both, version, (TOPIC, both.name("unknown"), None))
        describe(both, version, (TOPIC, "", None), (TOPIC, "a b", None), (TOPIC, "x" * 250, None), (TOPIC, "..", None))
        describe(both, version)
    describe(both, 4, (TOPIC, name, ["retention.ms", "max.message.bytes"]), includeDocumentation=True,
             options={"ignore": ["results[*].configs[*].documentation"]})


@scenario
def of_others_described(both):
    for version in DESCRIBE_VERSIONS:
        for kind in (0, 1, 3, 5, 64, -1):
            describe(both, version, (kind, "x", None))
        describe(both, version, (BROKER, "1", ["num.partitions", "log.cleaner.threads", "no.such.config"]), includeSynonyms=True)
        for name in ("2", "-1", "one", "1 ", "99999999999"):
            describe(both, version, (BROKER, name, ["num.partitions"]))
        describe(both, version, (BROKER, "01", ["num.partitions"]), options={"differs": {
            "results[*].errorCode": ("broker-name", "NONE", "INVALID_REQUEST"), "results[*].configs[*]": ("broker-name", ..., ABSENT)}})
        describe(both, version, (BROKER, "", ["num.partitions"]))
        for name in ("1", "", "2"):
            describe(both, version, (LOGGER, name, ["no.such.logger"]))
        describe(both, version, (GROUP, both.name("group"), None), includeSynonyms=True)
        describe(both, version, (GROUP, "", None))
        describe(both, version, (METRICS, both.name("metrics"), None), includeSynonyms=True)
        describe(both, version, (METRICS, "", None))


@scenario
def of_topics_altered(both):
    name = both.name("alters")
    create(both, 7, topic(name))
    for version in (0, 1, 2):
        alter(both, version, (TOPIC, name, [("retention.ms", "1000"), ("cleanup.policy", "compact")]))
        of(both, TOPIC, name)
        alter(both, version, (TOPIC, name, [("retention.ms", "2000")]), only=True)
        alter(both, version, (TOPIC, name, [("segment.ms", "3000")]))
        of(both, TOPIC, name)
        alter(both, version, (TOPIC, name, []))
        of(both, TOPIC, name)
        alter(both, version, (TOPIC, name, [("no.such.config", "1")]))
        alter(both, version, (TOPIC, name, [("retention.ms", "abc")]))
        alter(both, version, (TOPIC, name, [("retention.ms", None)]))
        alter(both, version, (TOPIC, name, [("retention.ms", "1"), ("retention.ms", "2")]))
        of(both, TOPIC, name, "retention.ms")
        alter(both, version, (TOPIC, name, [("retention.ms", "1")]), (TOPIC, name, [("retention.ms", "2")]), options={"wait": 1, "differs": SILENCE}) if version == 0 else None
        alter(both, version, (TOPIC, both.name("unknown"), [("retention.ms", "1")]), (TOPIC, name, [("retention.ms", "77")]))
        alter(both, version, (TOPIC, "", [("retention.ms", "1")]), (TOPIC, "a b", [("retention.ms", "1")]), options={"differs": EMPTY_NAME})
        alter(both, version, (0, "x", [("retention.ms", "1")]), (99, "x", []), options={"wait": 1, "differs": SILENCE}) if version == 0 else None
        alter(both, version, (BROKER, "2", [("log.cleaner.threads", "1")]))
        alter(both, version, (BROKER, "one", [("log.cleaner.threads", "1")]))
        alter(both, version, (LOGGER, "1", [("a", "INFO")]))
        alter(both, version)


@scenario
def of_topics_changed(both):
    for version in (0, 1):
        name = both.name(f"changes{version}")
        create(both, 7, topic(name))

        def tried(*configs, only=False, differs=None):
            change(both, version, (TOPIC, name, list(configs)), only=only, options={"differs": differs})
            of(both, TOPIC, name, "retention.ms", "cleanup.policy", "leader.replication.throttled.replicas", "compression.type", "max.message.bytes")

        tried(("retention.ms", SET, "1000"))
        tried(("retention.ms", SET, "2000"), only=True)
        tried(("retention.ms", DELETE, None))
        tried(("retention.ms", DELETE, "ignored"))
        tried(("retention.ms", SET, None))
        tried(("retention.ms", SET, ""))
        tried(("retention.ms", APPEND, "5"))
        tried(("retention.ms", SUBTRACT, "5"))
        for operation in (4, -1):
            tried(("retention.ms", operation, "5"), differs={"responses[*].errorCode": ("kafka-breaks", "UNKNOWN_SERVER_ERROR", "INVALID_REQUEST")})
        tried(("retention.ms", SET, "1"), ("retention.ms", SET, "2"))
        tried(("retention.ms", SET, "1"), ("retention.ms", DELETE, None))
        tried(("cleanup.policy", APPEND, "compact"))
        tried(("cleanup.policy", APPEND, "compact"))
        tried(("cleanup.policy", SUBTRACT, "delete"))
        tried(("cleanup.policy", SUBTRACT, "delete"))
        tried(("cleanup.policy", SUBTRACT, "compact"))
        tried(("cleanup.policy", APPEND, "nonsense"))
        tried(("cleanup.policy", APPEND, ""))
        tried(("cleanup.policy", APPEND, None))
        tried(("cleanup.policy", SET, "delete,compact,delete"))
        tried(("cleanup.policy", SET, " delete , compact "))
        tried(("cleanup.policy", DELETE, None))
        tried(("leader.replication.throttled.replicas", APPEND, "0:1,0:2"))
        tried(("leader.replication.throttled.replicas", APPEND, "0:2,0:3"))
        tried(("leader.replication.throttled.replicas", SUBTRACT, "0:1"))
        tried(("leader.replication.throttled.replicas", SET, "*"))
        tried(("compression.type", SET, "brotli"))
        tried(("max.message.bytes", SET, " 100 "))
        tried(("max.message.bytes", SET, "0"))
        tried(("no.such.config", SET, "1"))
        tried(("no.such.config", DELETE, None))
        tried(("", SET, "1"))
        tried(("retention.ms", SET, "5"), ("no.such.config", SET, "1"))
        tried()
        change(both, version, (TOPIC, both.name("unknown"), [("retention.ms", SET, "1")]), (TOPIC, name, [("retention.ms", SET, "9")]))
        change(both, version, (TOPIC, name, [("retention.ms", SET, "1")]), (TOPIC, name, [("segment.ms", SET, "2")]))
        change(both, version, (TOPIC, "", [("retention.ms", SET, "1")]), (TOPIC, "a b", []), options={"differs": EMPTY_NAME})
        change(both, version, (77, "x", [("retention.ms", SET, "1")]))
        change(both, version)
        tried()


@scenario
def of_brokers_changed(both):
    def tried(version, name, *configs, only=False, told="1"):
        change(both, version, (BROKER, name, list(configs)), only=only)
        describe(both, 4, (BROKER, told, ["log.cleaner.backoff.ms", "log.cleaner.threads", "leader.replication.throttled.rate"]), includeSynonyms=True)

    for version in (0, 1):
        tried(version, "", ("log.cleaner.backoff.ms", SET, "20000"))
        tried(version, "1", ("log.cleaner.backoff.ms", SET, "30000"))
        tried(version, "1", ("log.cleaner.backoff.ms", SET, "30000"), told="")
        tried(version, "1", ("log.cleaner.backoff.ms", SET, "-7"))
        tried(version, "1", ("log.cleaner.backoff.ms", SET, "x"))
        tried(version, "1", ("log.cleaner.backoff.ms", SET, "40000"), only=True)
        tried(version, "1", ("log.cleaner.backoff.ms", DELETE, None))
        tried(version, "", ("log.cleaner.backoff.ms", DELETE, None))
        tried(version, "1", ("leader.replication.throttled.rate", SET, "100"))
        tried(version, "1", ("leader.replication.throttled.rate", DELETE, None))
        tried(version, "", ("leader.replication.throttled.rate", SET, "100"))
        tried(version, "1", ("node.id", SET, "5"))
        tried(version, "", ("node.id", SET, "5"))
        change(both, version, (BROKER, "1", [("no.such.config", SET, "1")]), options={"differs": {
            "responses[*].errorCode": ("unknown-broker-config", "NONE", "INVALID_REQUEST")}})
        tried(version, "1", ("num.partitions", SET, "3"))
        tried(version, "2", ("log.cleaner.backoff.ms", SET, "1"))
        tried(version, "one", ("log.cleaner.backoff.ms", SET, "1"))
        tried(version, "-1", ("log.cleaner.backoff.ms", SET, "1"))
        change(both, version, (LOGGER, "1", [("no.such.logger", SET, "INFO")]), options={"differs": {
            "responses[*].errorCode": ("log-levels", "INVALID_CONFIG", "INVALID_REQUEST")}})
        change(both, version, (LOGGER, "", [("no.such.logger", SET, "INFO")]))
        change(both, version, (LOGGER, "1", [("root", SET, "LOUD")]), options={"differs": {
            "responses[*].errorCode": ("log-levels", "INVALID_CONFIG", "INVALID_REQUEST")}})
        change(both, version, (LOGGER, "1", [("root", APPEND, "INFO")]))


@scenario
def of_groups_and_metrics(both):
    group, metrics = both.name("group"), both.name("metrics")
    for version in (0, 1):
        for kind, name, configs in (
                (GROUP, group, [("consumer.session.timeout.ms", SET, "50000")]), (GROUP, group, [("consumer.session.timeout.ms", SET, "1")]),
                (GROUP, group, [("consumer.heartbeat.interval.ms", SET, "6000")]), (GROUP, group, [("consumer.session.timeout.ms", SET, "x")]),
                (GROUP, group, [("no.such.config", SET, "1")]), (GROUP, "", [("consumer.session.timeout.ms", SET, "50000")]),
                (GROUP, group, [("share.auto.offset.reset", SET, "earliest")]), (GROUP, group, [("share.auto.offset.reset", SET, "sometimes")]),
                (GROUP, group, [("consumer.heartbeat.interval.ms", DELETE, None)]), (GROUP, group, []),
                (METRICS, metrics, [("interval.ms", SET, "60000"), ("metrics", SET, "a,b"), ("match", SET, "client_id=x")]),
                (METRICS, metrics, [("interval.ms", SET, "5")]), (METRICS, metrics, [("interval.ms", SET, "x")]), (METRICS, metrics, [("match", SET, "nonsense")]),
                (METRICS, metrics, [("match", SET, "no_such=x")]), (METRICS, metrics, [("no.such", SET, "1")]), (METRICS, "", [("interval.ms", SET, "60000")]),
                (METRICS, metrics, [("match", DELETE, None)])):
            change(both, version, (kind, name, configs))
            of(both, kind, name)
        other = both.name(f"other{version}")
        change(both, version, (METRICS, other, [("match", SET, "client_id=[")]), options={"differs": {
            "responses[*].errorCode": ("regular-expressions", "INVALID_CONFIG", "NONE")}})
        change(both, version, (METRICS, other, [("match", DELETE, None), ("metrics", SET, "a,b")]))
        for operation in (APPEND, SUBTRACT):
            change(both, version, (METRICS, other, [("metrics", operation, "c")]), options={"differs": {
                "responses[*].errorCode": ("words-of-metrics", "INVALID_CONFIG", "NONE")}})
        of(both, METRICS, other, "metrics")
        change(both, version, (METRICS, other, [("metrics", DELETE, None)]))
        alter(both, 2, (GROUP, group, [("consumer.session.timeout.ms", "46000")]))
        of(both, GROUP, group)
        alter(both, 2, (GROUP, group, []))
        of(both, GROUP, group)
        alter(both, 2, (METRICS, metrics, [("interval.ms", "1000")]))
        of(both, METRICS, metrics)
    both.call("LIST_CONFIG_RESOURCES", 0, {})
    for types in ([], [TOPIC], [BROKER], [LOGGER], [METRICS], [GROUP], [TOPIC, METRICS], [3], [0], [99], [METRICS, METRICS]):
        both.call("LIST_CONFIG_RESOURCES", 1, {"resourceTypes": types}, only=("16 " + metrics, "32 " + group, metrics, group))
    change(both, 1, (METRICS, metrics, [("interval.ms", DELETE, None), ("metrics", DELETE, None), ("match", DELETE, None)]), (GROUP, group, []))
    both.call("LIST_CONFIG_RESOURCES", 1, {"resourceTypes": [METRICS, GROUP]}, only=(metrics, group))


@scenario
def quotas(both):
    user, client = both.name("user"), both.name("client")

    def entity(**parts):
        return [{"entityType": kind.replace("_", "-"), "entityName": name} for kind, name in parts.items()]

    def set_(version, of_, *ops, only=False):
        both.call("ALTER_CLIENT_QUOTAS", version, {"entries": [{"entity": of_, "ops": [{"key": key, "value": value or 0.0, "remove": value is None} for key, value in ops]}],
                                                   "validateOnly": only})

    def asked(version, *components, strict=False):
        both.call("DESCRIBE_CLIENT_QUOTAS", version, {"components": [{"entityType": kind, "matchType": how, "match": match} for kind, how, match in components], "strict": strict})

    for version in (0, 1):
        set_(version, entity(user=user), ("producer_byte_rate", 1000.0))
        set_(version, entity(user=user, client_id=client), ("consumer_byte_rate", 2000.5), ("request_percentage", 200.0))
        set_(version, entity(client_id=client), ("producer_byte_rate", 5.0), only=True)
        set_(version, entity(user=None), ("producer_byte_rate", 7.0))
        set_(version, entity(ip="127.0.0.1"), ("connection_creation_rate", 10.0))
        asked(version, ("user", 0, user))
        asked(version, ("user", 0, user), strict=True)
        asked(version, ("user", 0, user), ("client-id", 0, client))
        asked(version, ("user", 1, None))
        asked(version, ("user", 1, None), strict=True)
        asked(version, ("user", 2, None))
        asked(version, ("client-id", 2, None))
        asked(version, ("ip", 2, None))
        asked(version)
        asked(version, ("user", 0, None))
        asked(version, ("user", 1, "named"))
        asked(version, ("user", 2, "named"))
        asked(version, ("user", 3, None))
        asked(version, ("planet", 0, "x"))
        asked(version, ("", 0, "x"))
        asked(version, ("user", 0, ""))
        asked(version, ("user", 0, user), ("user", 0, user))
        asked(version, ("user", 0, user), ("ip", 0, "127.0.0.1"))
        set_(version, entity(user=user), ("no_such_quota", 1.0))
        set_(version, entity(user=user), ("producer_byte_rate", -1.0))
        set_(version, entity(user=user), ("producer_byte_rate", 0.5))
        set_(version, entity(user=user), ("request_percentage", -5.0))
        set_(version, entity(user=user), ("connection_creation_rate", 5.0))
        set_(version, entity(user=user), ("controller_mutation_rate", 5.0))
        set_(version, entity(user=user), ("producer_byte_rate", 1.0), ("producer_byte_rate", 2.0))
        set_(version, entity(user=""), ("producer_byte_rate", 1.0))
        set_(version, entity(planet="x"), ("producer_byte_rate", 1.0))
        set_(version, [], ("producer_byte_rate", 1.0))
        set_(version, entity(user=user, ip="127.0.0.1"), ("connection_creation_rate", 1.0))
        set_(version, entity(ip="not an address!"), ("connection_creation_rate", 1.0))
        set_(version, entity(ip="127.0.0.1"), ("producer_byte_rate", 1.0))
        set_(version, entity(user=both.name("nobody")), ("producer_byte_rate", None))
        set_(version, entity(user=user))
        both.call("ALTER_CLIENT_QUOTAS", version, {"entries": []})
        asked(version, ("user", 2, None))
        for of_, key in ((entity(user=user), "producer_byte_rate"), (entity(user=user), "controller_mutation_rate"), (entity(user=user, client_id=client), "consumer_byte_rate"),
                         (entity(user=user, client_id=client), "request_percentage"), (entity(user=None), "producer_byte_rate"), (entity(ip="127.0.0.1"), "connection_creation_rate")):
            set_(version, of_, (key, None))
        asked(version)


@scenario
def credentials(both):
    user, other = both.name("user"), both.name("other")
    salt, passwords = b"0123456789abcdef", {1: b"p" * 32, 2: b"p" * 64}

    def alter_(*upserts, delete=()):
        both.call("ALTER_USER_SCRAM_CREDENTIALS", 0, {
            "deletions": [{"name": name, "mechanism": mechanism} for name, mechanism in delete],
            "upsertions": [{"name": name, "mechanism": mechanism, "iterations": iterations, "salt": salt, "saltedPassword": passwords.get(mechanism, b"p" * 32)} for name, mechanism, iterations in upserts]})

    def asked(*names):
        both.call("DESCRIBE_USER_SCRAM_CREDENTIALS", 0, {"users": None if names == (None,) else [{"name": name} for name in names]})

    asked()
    asked(None)
    asked(user)
    alter_((user, 1, 4096), (other, 2, 8192))
    alter_((user, 2, 16384))
    asked(user, other)
    asked(user, user)
    asked("")
    asked(None)
    for iterations in (0, 4095, 16385, -1):
        alter_((user, 1, iterations))
    for mechanism in (0, 3, -1):
        alter_((user, mechanism, 4096))
        alter_(delete=[(user, mechanism)])
    alter_((user, 1, 4096), (user, 1, 8192))
    alter_((user, 1, 4096), delete=[(user, 1)])
    alter_((user, 1, 4096), (user, 2, 4096), (other, 1, 1))
    alter_(("", 1, 4096))
    alter_(delete=[("", 1)])
    alter_(delete=[(both.name("nobody"), 1), (other, 2)])
    alter_(delete=[(user, 1), (user, 1)])
    alter_()
    asked(user, other)
    alter_(delete=[(user, 1), (user, 2)])
    asked(None)


@scenario
def features(both):
    def update(version, *updates, only=False):
        listed = {"errorCode": ("features-one-by-one", "INVALID_UPDATE_VERSION", "NONE"), "results[*]": ("features-one-by-one", ABSENT, ...)} if version < 2 else {}
        if not updates:
            listed = {"errorCode": ("no-feature-named", "NONE", "INVALID_REQUEST")}
        both.call("UPDATE_FEATURES", version, {"timeoutMs": 9000, "featureUpdates": [{"feature": name, "maxVersionLevel": level, "upgradeType": kind, "allowDowngrade": False}
                                                                                   for name, level, kind in updates], "validateOnly": only}, differs=listed)

    for version in (0, 1, 2):
        update(version)
        update(version, ("no.such.feature", 1, 1))
        update(version, ("", 1, 1))
        update(version, ("no.such.feature", 0, 1))
        update(version, ("no.such.feature", -1, 1))
        update(version, ("metadata.version", 1, 1))
        update(version, ("metadata.version", 1000, 1))
        update(version, ("metadata.version", 1, 7))
        update(version, ("no.such.feature", 1, 1), ("metadata.version", 1000, 1), only=True)
