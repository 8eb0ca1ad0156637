#!/bin/sh
# What librdkafka's tests call to create and change topics: Kafka's own TopicCommand, from the jars that tests/clients/setup gets.
jars="$(cd "$(dirname "$0")/../../../.." && pwd)/target/clients/jars"
exec java -XX:TieredStopAtLevel=1 -cp "$jars/*" org.apache.kafka.tools.TopicCommand "$@"
