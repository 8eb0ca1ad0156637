package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log"
	"os"

	"esker.dev/examples/eskerv1"
)

// produce writes records, lines of JSON, to a topic: each once and in order, also when connections break or agents go. It writes a line
// for each record, {"partition": …, "offset": …}, when it is stored for good.
func produce(ctx context.Context, flags *flag.FlagSet, arguments []string) error {
	agents, topic := agentsOf(flags), flags.String("topic", "", "required")
	batch := flags.Int("batch", 1000, "records of a batch")
	flags.Parse(arguments)
	file := os.Stdin
	if flags.NArg() > 0 {
		var err error
		if file, err = os.Open(flags.Arg(0)); err != nil {
			return err
		}
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	connected := agents()
	defer connected.Close()
	var wrong error
	stored := 0
	err := NewSession(connected, *topic).Produce(ctx, batchesOf(file, *batch, &wrong), func(ack *eskerv1.ProduceStreamResponse_Ack) {
		for nth, offset := range ack.Offsets {
			fmt.Fprintf(out, "{\"partition\": %d, \"offset\": %d}\n", ack.Partitions[nth], offset)
		}
		stored += len(ack.Offsets)
	})
	var refused Refused
	if errors.As(err, &refused) {
		// Not what was acknowledged above, but of the batch that was refused and of those after it.
		for _, batch := range refused.Stored {
			log.Printf("stored of batch %d: partitions %d, offsets %d (-1 is not stored)", batch.Number, batch.Partitions, batch.Offsets)
		}
		return refused.Unwrap()
	}
	if err = errors.Join(err, wrong); err == nil {
		log.Printf("stored %d records", stored)
	}
	return err
}

// batchesOf reads lines; it ends with the first one that is no record.
func batchesOf(file io.Reader, size int, wrong *error) iter.Seq[[]*eskerv1.Record] {
	return func(yield func([]*eskerv1.Record) bool) {
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 64<<20)
		var batch []*eskerv1.Record
		for lines.Scan() {
			record, err := recordOf(lines.Bytes())
			if err != nil {
				*wrong = err
				return
			}
			if batch = append(batch, record); len(batch) == size {
				if !yield(batch) {
					return
				}
				batch = nil
			}
		}
		if *wrong = lines.Err(); len(batch) > 0 {
			yield(batch)
		}
	}
}
