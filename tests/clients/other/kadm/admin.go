package main

import (
	"errors"
	"fmt"
	"maps"
	"sort"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func (s *suite) topics() {
	topic := fresh("go-topics")
	answer := got(s.client.CreateTopics(s, 3, 1, map[string]*string{"retention.ms": kadm.StringPtr("60000")}, topic))[topic]
	must(answer.Err, "creation")
	equal([]int32{answer.NumPartitions, int32(answer.ReplicationFactor)}, []int32{3, 1}, "partitions and replicas in the answer")
	equal(*answer.Configs["retention.ms"].Value, "60000", "a config in the answer")
	refused(got(s.client.CreateTopics(s, 1, 1, nil, topic))[topic].Err, kerr.TopicAlreadyExists, "the same again")
	only := fresh("go-never")
	must(got(s.client.ValidateCreateTopics(s, 1, 1, nil, only))[only].Err, "validation")
	listed := got(s.client.ListTopics(s))
	check(listed.Has(topic) && !listed.Has(only), "what is listed: %v", listed.Names())
	equal(listed[topic].ID, answer.ID, "its id")
	nodes := got(s.client.ListBrokers(s)).NodeIDs()
	partitions := listed[topic].Partitions.Sorted()
	for n, partition := range partitions {
		check(partition.Partition == int32(n) && partition.Err == nil && contains(nodes, partition.Leader), "partition: %+v", partition)
	}
	must(got(s.client.CreatePartitions(s, 2, topic))[topic].Err, "two more partitions")
	s.until("five partitions", func() bool { return len(got(s.client.ListTopics(s, topic))[topic].Partitions) == 5 })
	refused(got(s.client.UpdatePartitions(s, 2, topic))[topic].Err, kerr.InvalidPartitions, "fewer partitions")
	must(got(s.client.DeleteTopics(s, topic))[topic].Err, "deletion")
	s.until("the topic is gone", func() bool { return !got(s.client.ListTopics(s)).Has(topic) })
	refused(got(s.client.DeleteTopics(s, topic))[topic].Err, kerr.UnknownTopicOrPartition, "deleting it again")
}

func contains(nodes []int32, node int32) bool {
	for _, one := range nodes {
		if one == node {
			return true
		}
	}
	return false
}

func (s *suite) configs() {
	topic := s.created("go-configs", 1, map[string]*string{"retention.ms": kadm.StringPtr("60000")})
	value := func(key string) string {
		resource := got(got(s.client.DescribeTopicConfigs(s, topic)).On(topic, nil))
		must(resource.Err, "description")
		for _, config := range resource.Configs {
			if config.Key == key {
				return fmt.Sprintf("%s %s", *config.Value, config.Source)
			}
		}
		return "nothing"
	}
	// At once here; Kafka's broker may hear of it a moment later.
	both := func(one, other, expected string) {
		s.until(expected, func() bool { return value(one)+", "+value(other) == expected })
	}
	alter := func(op kadm.IncrementalOp, name string, to string) error {
		answer := got(s.client.AlterTopicConfigs(s, []kadm.AlterConfig{{Op: op, Name: name, Value: &to}}, topic))
		return got(answer.On(topic, nil)).Err
	}
	equal(value("retention.ms"), "60000 DYNAMIC_TOPIC_CONFIG", "retention.ms")
	must(alter(kadm.SetConfig, "retention.ms", "70000"), "set")
	must(alter(kadm.AppendConfig, "cleanup.policy", "compact"), "append")
	both("retention.ms", "cleanup.policy", "70000 DYNAMIC_TOPIC_CONFIG, delete,compact DYNAMIC_TOPIC_CONFIG")
	must(alter(kadm.SubtractConfig, "cleanup.policy", "delete"), "subtract")
	must(alter(kadm.DeleteConfig, "retention.ms", ""), "delete")
	both("retention.ms", "cleanup.policy", "604800000 DEFAULT_CONFIG, compact DYNAMIC_TOPIC_CONFIG")
	refused(alter(kadm.SetConfig, "retention.ms", "never"), kerr.InvalidConfig, "an impossible value")
	state := []kadm.AlterConfig{{Name: "flush.ms", Value: kadm.StringPtr("99")}}
	must(got(got(s.client.ValidateAlterTopicConfigsState(s, state, topic)).On(topic, nil)).Err, "validation of a state")
	equal(value("flush.ms"), "9223372036854775807 DEFAULT_CONFIG", "a value that was only to be validated")
	must(got(got(s.client.AlterTopicConfigsState(s, state, topic)).On(topic, nil)).Err, "a whole state")
	both("flush.ms", "cleanup.policy", "99 DYNAMIC_TOPIC_CONFIG, delete DEFAULT_CONFIG")
	node := got(s.client.ListBrokers(s)).NodeIDs()[0]
	found := 0
	for _, config := range got(got(s.client.DescribeBrokerConfigs(s, node)).On(fmt.Sprint(node), nil)).Configs {
		if config.Key == "message.max.bytes" && *config.Value == "1048588" {
			found++
		}
	}
	equal(found, 1, "message.max.bytes of a broker")
	listed := 0
	for _, resource := range got(s.client.ListConfigResources(s, kadm.ConfigResourceTopic)).Resources {
		if resource.Name == topic {
			listed++
		}
	}
	equal(listed, 1, "the topic among the config resources")
}

func (s *suite) offsets() {
	topic := s.created("go-offsets", 2, nil)
	s.filled(topic, 2, 10)
	at := func(listed kadm.ListedOffsets, err error) [2][2]int64 {
		must(err, "offsets")
		must(listed.Error(), "an offset")
		var found [2][2]int64
		listed.Each(func(one kadm.ListedOffset) { found[one.Partition] = [2]int64{one.Offset, one.Timestamp} })
		return found
	}
	equal(at(s.client.ListStartOffsets(s, topic)), [2][2]int64{{0, -1}, {0, -1}}, "first offsets")
	equal(at(s.client.ListEndOffsets(s, topic)), [2][2]int64{{10, -1}, {10, -1}}, "next offsets")
	equal(at(s.client.ListCommittedOffsets(s, topic)), [2][2]int64{{10, -1}, {10, -1}}, "last stable offsets")
	equal(at(s.client.ListMaxTimestampOffsets(s, topic))[1], [2]int64{9, noon + 9000}, "the latest record")
	equal(at(s.client.ListOffsetsAfterMilli(s, noon+2500, topic))[0], [2]int64{3, noon + 3000}, "the first record after a time")
	equal(at(s.client.ListOffsetsAfterMilli(s, noon+99_000, topic))[0][0], int64(10), "a time after all records")
	equal(at(s.client.ListLocalLogStartOffsets(s, topic))[0][0], int64(0), "where the local log starts")
	answer := got(s.client.DeleteRecords(s, offsetsOf(topic, 4, 10)))
	for partition, low := range []int64{4, 10} {
		one, _ := answer.Lookup(topic, int32(partition))
		must(one.Err, "deletion")
		equal(one.LowWatermark, low, "low watermark")
	}
	started := at(s.client.ListStartOffsets(s, topic))
	equal([2]int64{started[0][0], started[1][0]}, [2]int64{4, 10}, "where the logs start")
	one, _ := got(s.client.DeleteRecords(s, offsetsOf(topic, 11))).Lookup(topic, 0)
	refused(one.Err, kerr.OffsetOutOfRange, "an offset beyond the end")
	epoch := got(s.client.ListTopics(s, topic))[topic].Partitions[0].LeaderEpoch
	ends := got(s.client.OffsetForLeaderEpoch(s, kadm.OffsetForLeaderEpochRequest{topic: {0: epoch}}))[topic][0]
	equal([2]int64{int64(ends.LeaderEpoch), ends.EndOffset}, [2]int64{int64(epoch), 10}, "the end of the leader's epoch")
	producers := got(s.client.DescribeProducers(s, kadm.TopicsSet{topic: {0: {}}}))[topic].Partitions[0]
	must(producers.Err, "producers")
	equal(len(producers.ActiveProducers), 1, "producers of a partition")
	for _, producer := range producers.ActiveProducers {
		equal(producer.LastSequence, int32(9), "its last sequence")
	}
}

func offsetsOf(topic string, at ...int64) kadm.Offsets {
	offsets := kadm.Offsets{}
	for partition, offset := range at {
		offsets.Add(kadm.Offset{Topic: topic, Partition: int32(partition), At: offset, LeaderEpoch: -1})
	}
	return offsets
}

func (s *suite) groups() {
	topic, group := s.created("go-groups", 2, nil), fresh("go-group")
	s.filled(topic, 2, 10)
	commit := kadm.Offsets{}
	commit.Add(kadm.Offset{Topic: topic, Partition: 0, At: 4, LeaderEpoch: -1, Metadata: "why"})
	commit.Add(kadm.Offset{Topic: topic, Partition: 1, At: 6, LeaderEpoch: -1})
	must(s.client.CommitAllOffsets(s, group, commit), "commit without a member")
	found := got(s.client.FetchOffsets(s, group))
	first, _ := found.Lookup(topic, 0)
	second, _ := found.Lookup(topic, 1)
	equal([]any{first.At, first.Metadata, second.At}, []any{int64(4), "why", int64(6)}, "what is committed")
	listed := got(s.client.ListGroups(s))[group]
	equal(listed.State, "Empty", "its state in the list")
	many := s.client.FetchManyOffsets(s, group, fresh("go-never"))
	must(many.Error(), "offsets of two groups")
	equal(len(many[group].Fetched[topic]), 2, "offsets of one of two groups")
	deleted := got(s.client.DeleteOffsets(s, group, kadm.TopicsSet{topic: {1: {}}}))
	must(deleted.Error(), "deleting an offset")
	left := got(s.client.FetchOffsets(s, group))
	equal(len(left[topic]), 1, "offsets that are left")

	member := s.newClient(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.InstanceID("go-instance"), kgo.DisableAutoCommit())
	defer member.Close()
	s.until("records", func() bool { return member.PollFetches(s).NumRecords() > 0 })
	s.until("a stable group", func() bool { return got(s.client.DescribeGroups(s, group))[group].State == "Stable" })
	told := got(s.client.DescribeGroups(s, group))[group]
	must(told.Err, "description")
	equal([]any{told.ProtocolType, told.Protocol, len(told.Members)}, []any{"consumer", "cooperative-sticky", 1}, "the group")
	equal([]string{told.Members[0].ClientID, *told.Members[0].InstanceID}, []string{"esker-kadm", "go-instance"}, "its member")
	assigned := told.AssignedPartitions()
	equal(len(assigned[topic]), 2, "its partitions")
	check(got(s.client.ListGroups(s, "Stable"))[group].Group == group, "not among the stable groups")
	lags := got(s.client.Lag(s, group))[group]
	must(lags.Error(), "lag")
	equal(lags.Lag[topic][0].Lag, int64(6), "lag of partition 0")
	refused(got(s.client.DeleteGroups(s, group))[group].Err, kerr.NonEmptyGroup, "deleting a group with a member")
	gone := got(s.client.LeaveGroup(s, kadm.LeaveGroup(group).InstanceIDs("go-instance").Reason("test")))
	must(gone.Error(), "removing the member")
	s.until("an empty group", func() bool { return got(s.client.DescribeGroups(s, group))[group].State == "Empty" })
	member.Close()
	must(got(s.client.DeleteGroups(s, group))[group].Err, "deletion")
	equal(got(s.client.DescribeGroups(s, group))[group].State, "Dead", "the state of a deleted group")
	_, there := got(s.client.ListGroups(s))[group]
	check(!there, "a deleted group is listed")
	refused(got(s.client.DeleteGroups(s, group))[group].Err, kerr.GroupIDNotFound, "deleting it again")
}

func (s *suite) cluster() {
	topic := s.created("go-cluster", 2, nil)
	s.filled(topic, 2, 20)
	metadata := got(s.client.BrokerMetadata(s))
	var addresses []string
	for _, broker := range metadata.Brokers {
		addresses = append(addresses, fmt.Sprintf("%s:%d", broker.Host, broker.Port))
	}
	sort.Strings(addresses)
	sort.Strings(s.seeds)
	equal(addresses, s.seeds, "addresses of the brokers")
	check(metadata.Cluster != "" && contains(metadata.Brokers.NodeIDs(), metadata.Controller), "cluster %q, controller %d", metadata.Cluster, metadata.Controller)
	sizes := map[int32]int64{}
	dirs := got(s.client.DescribeAllLogDirs(s, kadm.TopicsSet{topic: {0: {}, 1: {}}}))
	equal(len(dirs), len(s.seeds), "brokers that tell their directories")
	dirs.Each(func(dir kadm.DescribedLogDir) {
		must(dir.Err, "directory")
		dir.Topics.Each(func(one kadm.DescribedLogDirPartition) { sizes[one.Partition] += one.Size })
	})
	check(len(sizes) == 2 && sizes[0] > 100 && sizes[0] < 4000 && sizes[1] > 100, "sizes: %v", sizes)
	versions := got(s.client.ApiVersions(s))
	equal(len(versions), len(s.seeds), "brokers that tell their versions")
	for _, one := range versions {
		_, highest, there := one.KeyVersions(1)
		check(one.Err == nil && there && highest >= 17, "Fetch up to %d, %v", highest, one.Err)
	}
	elected := got(s.client.ElectLeaders(s, kadm.ElectPreferredReplica, kadm.TopicsSet{topic: {0: {}}}))
	refused(elected[topic][0].Err, kerr.ElectionNotNeeded, "an election")
	equal(len(got(s.client.ListPartitionReassignments(s, kadm.TopicsSet{topic: {0: {}}}))), 0, "reassignments")
	move := kadm.AlterPartitionAssignmentsReq{}
	move.Assign(topic, 0, []int32{4711})
	moved := got(s.client.AlterPartitionAssignments(s, move))
	refused(moved[topic][0].Err, kerr.InvalidReplicaAssignment, "a reassignment to nobody")
	coordinator := s.client.FindGroupCoordinators(s, fresh("go-group"))
	must(coordinator.Error(), "coordinator")
	equal(len(got(s.client.ListTransactions(s, nil, nil))), 0, "transactions")
}

func (s *suite) quotasAndScram() {
	user := fresh("go-user")
	entity := kadm.ClientQuotaEntity{{Type: "user", Name: &user}}
	component := kadm.DescribeClientQuotaComponent{Type: "user", MatchName: &user, MatchType: 0}
	quotas := func() map[string]float64 {
		values := map[string]float64{}
		for _, one := range got(s.client.DescribeClientQuotas(s, true, []kadm.DescribeClientQuotaComponent{component})) {
			for _, value := range one.Values {
				values[value.Key] = value.Value
			}
		}
		return values
	}
	alter := func(ops ...kadm.AlterClientQuotaOp) error {
		return got(s.client.AlterClientQuotas(s, []kadm.AlterClientQuotaEntry{{Entity: entity, Ops: ops}}))[0].Err
	}
	rate := kadm.AlterClientQuotaOp{Key: "producer_byte_rate", Value: 1024}
	must(alter(rate, kadm.AlterClientQuotaOp{Key: "request_percentage", Value: 50}), "quotas")
	both := map[string]float64{"producer_byte_rate": 1024, "request_percentage": 50}
	s.until("both quotas", func() bool { return maps.Equal(quotas(), both) })
	rate.Remove = true
	must(alter(rate), "removal")
	s.until("one quota", func() bool { return maps.Equal(quotas(), map[string]float64{"request_percentage": 50}) })
	refused(alter(kadm.AlterClientQuotaOp{Key: "no_such_quota", Value: 1}), kerr.InvalidRequest, "an unknown quota")
	must(alter(kadm.AlterClientQuotaOp{Key: "request_percentage", Remove: true}), "removal")

	upsert := kadm.UpsertSCRAM{User: user, Mechanism: kadm.ScramSha512, Iterations: 8192, Password: "secret"}
	must(got(s.client.AlterUserSCRAMs(s, nil, []kadm.UpsertSCRAM{upsert}))[user].Err, "a credential")
	told := got(s.client.DescribeUserSCRAMs(s, user))[user]
	equal(told.CredInfos, []kadm.CredInfo{{Mechanism: kadm.ScramSha512, Iterations: 8192}}, "credentials")
	remove := kadm.DeleteSCRAM{User: user, Mechanism: kadm.ScramSha512}
	must(got(s.client.AlterUserSCRAMs(s, []kadm.DeleteSCRAM{remove}, nil))[user].Err, "deletion")
	refused(got(s.client.DescribeUserSCRAMs(s, user))[user].Err, kerr.ResourceNotFound, "a user without credentials")
}

// refusals: what is not there says so, at once, and hurts nothing.
func (s *suite) refusals() {
	acls := kadm.NewACLs().Topics("go").ResourcePatternType(kadm.ACLPatternLiteral).Allow("User:go").AllowHosts("*").Operations(kadm.OpRead)
	described, err := s.client.DescribeACLs(s, acls)
	if err == nil {
		check(len(described) == 1, "answers to one filter: %d", len(described))
		err = described[0].Err
	}
	created, createErr := s.client.CreateACLs(s, acls)
	if createErr == nil {
		check(len(created) == 1, "answers to one creation: %d", len(created))
		createErr = created[0].Err
	}
	for what, err := range map[string]error{"describing ACLs": err, "creating an ACL": createErr} {
		check(errors.Is(err, kerr.SecurityDisabled) || unsupported(err), "%s: %v", what, err)
	}
	updated := got(s.client.UpdateFeatures(s, false, kadm.FeatureUpdate{Feature: "metadata.version", MaxVersionLevel: 1, UpgradeType: 1}))
	check(updated.Error() != nil, "a feature was changed")
	equal(len(got(s.client.ListBrokers(s))), len(s.seeds), "brokers, after that")
}

func unsupported(err error) bool {
	return err != nil && (errors.Is(err, kerr.UnsupportedVersion) || err.Error() == "broker is too old; the broker has already indicated it will not know how to handle the request")
}
