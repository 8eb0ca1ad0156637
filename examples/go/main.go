// Examples of gRPC clients: they write and read topics beside Kafka clients.
//
//	esker produce --topic NAME [FILE]
//	esker consume --topic NAME [--group NAME] [--count RECORDS]
//	esker admin create TOPIC PARTITIONS | topics | lag GROUP
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

var tools = map[string]func(ctx context.Context, flags *flag.FlagSet, arguments []string) error{
	"produce": produce, "consume": consume, "admin": admin,
}

func main() {
	if len(os.Args) < 2 || tools[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: esker produce|consume|admin …; each has --help")
		os.Exit(2)
	}
	// Ended in whatever way, the connection is closed: then a group gives the partitions to others at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := tools[os.Args[1]](ctx, flag.NewFlagSet(os.Args[1], flag.ExitOnError), os.Args[2:])
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		fmt.Fprintln(os.Stderr, explain(err))
		os.Exit(1)
	}
}
