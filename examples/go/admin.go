package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"

	"esker.dev/examples/eskerv1"
)

const adminUsage = "usage: esker admin [flags] create TOPIC PARTITIONS | topics | lag GROUP"

// admin creates a topic, lists topics, or says how far a group has come, whoever its members are.
func admin(ctx context.Context, flags *flag.FlagSet, arguments []string) error {
	agents := agentsOf(flags)
	flags.Parse(arguments)
	connected := agents()
	defer connected.Close()
	connection, err := connected.Connection()
	if err != nil {
		return err
	}
	client, ctx := eskerv1.NewAdminClient(connection), connected.Context(ctx)
	switch {
	case flags.NArg() == 3 && flags.Arg(0) == "create":
		return create(ctx, client, flags.Arg(1), flags.Arg(2))
	case flags.NArg() == 1 && flags.Arg(0) == "topics":
		return topics(ctx, client)
	case flags.NArg() == 2 && flags.Arg(0) == "lag":
		return lag(ctx, client, flags.Arg(1))
	}
	return errors.New(adminUsage)
}

func create(ctx context.Context, client eskerv1.AdminClient, topic, partitions string) error {
	count, err := strconv.ParseInt(partitions, 10, 32)
	if err != nil {
		return err
	}
	wanted := int32(count)
	answer, err := client.CreateTopics(ctx, &eskerv1.CreateTopicsRequest{Topics: []*eskerv1.NewTopic{{Name: topic, Partitions: &wanted}}})
	if err != nil {
		return err
	}
	// Calls for several things answer for each of them.
	if failure := answer.Results[0].Failure; failure != nil {
		return errors.New(failure.Message)
	}
	return nil
}

func topics(ctx context.Context, client eskerv1.AdminClient) error {
	answer, err := client.ListTopics(ctx, &eskerv1.ListTopicsRequest{})
	if err != nil {
		return err
	}
	for _, topic := range answer.Topics {
		fmt.Printf("%s: %d partitions\n", topic.Name, topic.Partitions)
	}
	return nil
}

func lag(ctx context.Context, client eskerv1.AdminClient, group string) error {
	committed, err := client.GroupOffsets(ctx, &eskerv1.GroupOffsetsRequest{GroupId: group})
	if err != nil {
		return err
	}
	request := &eskerv1.ListOffsetsRequest{}
	latest := &eskerv1.Position{At: &eskerv1.Position_Edge{Edge: eskerv1.Edge_EDGE_LATEST}}
	for _, found := range committed.Offsets {
		request.Partitions = append(request.Partitions, &eskerv1.PartitionPosition{Topic: found.Topic, Partition: found.Partition, At: latest})
	}
	ends, err := client.ListOffsets(ctx, request)
	if err != nil {
		return err
	}
	for nth, end := range ends.Results {
		if end.Failure != nil {
			return errors.New(end.Failure.Message)
		}
		offset := committed.Offsets[nth].Offset
		fmt.Printf("%s/%d: committed %d of %d, %d to go\n", end.Topic, end.Partition, offset, end.Offset, end.Offset-offset)
	}
	return nil
}
