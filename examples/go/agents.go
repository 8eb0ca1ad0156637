package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"esker.dev/examples/eskerv1"
)

const (
	// Fetch and Subscribe return a record however large it is; the library's own limit is 4 MiB.
	messageBytesMax = 64 << 20
	failuresMax     = 40
	pauseFirst      = 50 * time.Millisecond
	pauseMax        = 2 * time.Second
)

// Agents is a connection to one agent at a time. Any agent serves everything, so when one is gone the next one is asked.
type Agents struct {
	addresses  []string
	clientID   string
	at         int
	failures   int
	connection *grpc.ClientConn
}

// agentsOf adds the flags that all tools have, and returns what makes the agents of them.
func agentsOf(flags *flag.FlagSet) func() *Agents {
	log.SetFlags(0)
	addresses := flags.String("agents", "127.0.0.1:9095", "gRPC addresses of agents, HOST:PORT,…")
	clientID := flags.String("client-id", "go", "what the client calls itself")
	return func() *Agents {
		return &Agents{addresses: strings.Split(*addresses, ","), clientID: *clientID}
	}
}

// Connection is the one to the agent of the hour.
func (a *Agents) Connection() (*grpc.ClientConn, error) {
	if a.connection != nil {
		return a.connection, nil
	}
	connection, err := grpc.NewClient(a.addresses[a.at],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax)),
		// An agent that is cut off is noticed within 15 seconds.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}))
	a.connection = connection
	return connection, err
}

// Context carries what the client calls itself; `zone=a` in it says where it is.
func (a *Agents) Context(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "client-id", a.clientID)
}

// MoveOn connects to the next agent after an error that passes; it returns any other, and when no agent has helped for a minute.
func (a *Agents) MoveOn(ctx context.Context, err error) error {
	a.failures++
	if !passes(err) || a.failures > failuresMax {
		return err
	}
	a.Close()
	a.at = (a.at + 1) % len(a.addresses)
	log.Printf("%v; going on at %s", err, a.addresses[a.at])
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(min(pauseFirst<<min(a.failures-1, 10), pauseMax)):
		return nil
	}
}

// Helped says that an agent has done what it was asked.
func (a *Agents) Helped() {
	a.failures = 0
}

// Close ends the connection, and with it all streams.
func (a *Agents) Close() {
	if a.connection != nil {
		a.connection.Close()
		a.connection = nil
	}
}

// detail is what the agent says of an error beside its message: Kafka's code, whether it passes, what to do. nil if there is no such thing.
func detail(err error) *eskerv1.ErrorDetail {
	for _, found := range status.Convert(err).Details() {
		if found, ok := found.(*eskerv1.ErrorDetail); ok {
			return found
		}
	}
	return nil
}

// passes says whether the same call may succeed later, or at another agent.
func passes(err error) bool {
	if found := detail(err); found != nil {
		// To Kafka clients a topic that does not exist is one that may come yet.
		return found.Retriable && status.Code(err) != codes.NotFound
	}
	return status.Code(err) == codes.Unavailable
}

// explain is an error as somebody wants to read it.
func explain(err error) string {
	found := detail(err)
	if found == nil {
		return err.Error()
	}
	passes := "stays"
	if found.Retriable {
		passes = "passes"
	}
	return fmt.Sprintf("%s (Kafka's %d, %s; %s): %s", status.Code(err), found.KafkaCode, found.KafkaName, passes, status.Convert(err).Message())
}
