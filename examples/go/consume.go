package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"os"

	"esker.dev/examples/eskerv1"
)

// consume reads a topic and writes its records as lines of JSON, until it is interrupted. As a member of a group it shares the
// partitions with all other members, be they gRPC or Kafka clients, and commits what it has written.
func consume(ctx context.Context, flags *flag.FlagSet, arguments []string) error {
	agents, topic := agentsOf(flags), flags.String("topic", "", "required")
	group := flags.String("group", "", "read what this group has not yet read; without it everything is read, and nothing committed")
	left := flags.Int("count", -1, "end after so many records")
	flags.Parse(arguments)
	connected := agents()
	defer connected.Close()
	out := bufio.NewWriter(os.Stdout)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	subscription := &Subscription{agents: connected, topic: *topic, group: *group}
	return subscription.Read(ctx, func(found *eskerv1.SubscribeEvent_Records) error {
		records, nextOffset := found.Records, found.NextOffset
		if *left >= 0 {
			if *left < len(records) {
				nextOffset = records[*left].Offset
				records = records[:*left]
			}
			*left -= len(records)
		}
		for _, record := range records {
			if err := lines.Encode(lineOf(found.Topic, found.Partition, record)); err != nil {
				return err
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if *group != "" {
			if err := subscription.Commit(ctx, found.Partition, nextOffset); err != nil {
				return err
			}
		}
		if *left == 0 {
			return errEnough
		}
		return nil
	})
}
