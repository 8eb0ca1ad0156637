package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"esker.dev/examples/eskerv1"
)

const (
	commitsMax  = 10
	commitPause = 100 * time.Millisecond
)

// The group has given the partitions to somebody else, who gets the records again.
var gone = map[string]bool{"ILLEGAL_GENERATION": true, "UNKNOWN_MEMBER_ID": true, "REBALANCE_IN_PROGRESS": true, "FENCED_INSTANCE_ID": true}

var errEnough = errors.New("enough")

// Subscription is a consumer: records as they come, of all partitions of a topic or of those that a group gives, however often the
// connection breaks. Without a group, it reads all partitions from their first record on and keeps its positions itself.
type Subscription struct {
	agents    *Agents
	topic     string
	group     string
	positions map[int32]*eskerv1.Position
	member    *eskerv1.Member
}

// Read calls handle with Records of one partition after the other, until it says errEnough. With a group, what was not committed comes
// again, perhaps to somebody else.
func (s *Subscription) Read(ctx context.Context, handle func(*eskerv1.SubscribeEvent_Records) error) error {
	for {
		err := s.stream(ctx, handle)
		s.member = nil
		if errors.Is(err, errEnough) {
			return nil
		}
		if err := s.agents.MoveOn(ctx, err); err != nil {
			return err
		}
	}
}

func (s *Subscription) stream(ctx context.Context, handle func(*eskerv1.SubscribeEvent_Records) error) error {
	ctx, cancel := context.WithCancel(s.agents.Context(ctx))
	defer cancel()
	connection, err := s.agents.Connection()
	if err != nil {
		return err
	}
	request, err := s.request(ctx)
	if err != nil {
		return err
	}
	events, err := eskerv1.NewConsumerClient(connection).Subscribe(ctx, request)
	if err != nil {
		return err
	}
	for {
		event, err := events.Recv()
		if err == io.EOF {
			return errors.New("the agent has ended the subscription")
		}
		if err != nil {
			return err
		}
		s.agents.Helped()
		switch event := event.Event.(type) {
		case *eskerv1.SubscribeEvent_Assigned_:
			s.member = event.Assigned.Member
			log.Printf("assigned %s as %s of generation %d", named(event.Assigned.Partitions), s.member.MemberId, s.member.Generation)
		case *eskerv1.SubscribeEvent_Revoked_:
			s.member = nil
			log.Printf("revoked %s", named(event.Revoked.Partitions))
		case *eskerv1.SubscribeEvent_Records_:
			if err := handle(event.Records); err != nil {
				return err
			}
			if s.positions != nil {
				s.positions[event.Records.Partition] = &eskerv1.Position{At: &eskerv1.Position_Offset{Offset: event.Records.NextOffset}}
			}
		}
	}
}

// Commit has the group go on from this offset; it says so if that could not be, because then the records before it come again.
func (s *Subscription) Commit(ctx context.Context, partition int32, offset int64) error {
	request := &eskerv1.CommitRequest{
		GroupId: s.group, Member: s.member,
		Offsets: []*eskerv1.CommittedOffset{{Topic: s.topic, Partition: partition, Offset: offset}},
	}
	var text string
	for range commitsMax {
		connection, err := s.agents.Connection()
		if err != nil {
			return err
		}
		answer, err := eskerv1.NewConsumerClient(connection).Commit(s.agents.Context(ctx), request)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var found *eskerv1.ErrorDetail
		switch {
		case err != nil:
			text, found = explain(err), detail(err)
		case answer.Results[0].Failure == nil:
			return nil
		default:
			text, found = answer.Results[0].Failure.Message, answer.Results[0].Failure.Detail
		}
		if found == nil || gone[found.KafkaName] || !found.Retriable {
			break
		}
		time.Sleep(commitPause)
	}
	log.Printf("not committed: %s", text)
	return nil
}

func (s *Subscription) request(ctx context.Context) (*eskerv1.SubscribeRequest, error) {
	if s.group != "" {
		group := &eskerv1.SubscribeRequest_Group{GroupId: s.group, Topics: []string{s.topic}, Start: eskerv1.SubscribeRequest_START_EARLIEST}
		return &eskerv1.SubscribeRequest{What: &eskerv1.SubscribeRequest_Group_{Group: group}}, nil
	}
	if s.positions == nil {
		if err := s.begin(ctx); err != nil {
			return nil, err
		}
	}
	assign := &eskerv1.SubscribeRequest_Assign{}
	for partition, at := range s.positions {
		assign.Partitions = append(assign.Partitions, &eskerv1.PartitionPosition{Topic: s.topic, Partition: partition, At: at})
	}
	return &eskerv1.SubscribeRequest{What: &eskerv1.SubscribeRequest_Assign_{Assign: assign}}, nil
}

// begin puts all partitions at their first record.
func (s *Subscription) begin(ctx context.Context) error {
	connection, err := s.agents.Connection()
	if err != nil {
		return err
	}
	answer, err := eskerv1.NewAdminClient(connection).DescribeTopics(ctx, &eskerv1.DescribeTopicsRequest{Topics: []string{s.topic}})
	if err != nil {
		return err
	}
	if failure := answer.Topics[0].Failure; failure != nil {
		return errors.New(failure.Message)
	}
	s.positions = map[int32]*eskerv1.Position{}
	for _, found := range answer.Topics[0].Partitions {
		s.positions[found.Partition] = &eskerv1.Position{At: &eskerv1.Position_Edge{Edge: eskerv1.Edge_EDGE_EARLIEST}}
	}
	return nil
}

func named(topics []*eskerv1.TopicPartitions) string {
	var names []string
	for _, topic := range topics {
		for _, partition := range topic.Partitions {
			names = append(names, fmt.Sprintf("%s/%d", topic.Topic, partition))
		}
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, " ")
}
