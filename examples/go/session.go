package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"

	"google.golang.org/grpc"

	"esker.dev/examples/eskerv1"
)

// The most that the agents take: so many batches the cluster recognises when they come again.
const unackedMax = 5

// Refused is the error of a batch of which, or after which, something is stored nevertheless.
type Refused struct {
	error
	Stored []*eskerv1.ProduceStreamResponse_StoredBatch
}

// Unwrap gives the agent's own error.
func (r Refused) Unwrap() error { return r.error }

// Session is an idempotent producer of one topic: batches are stored once and in order, however often the connection breaks.
type Session struct {
	agents *Agents
	topic  string
	// What has to be kept to go on after the stream broke.
	session       *eskerv1.Session
	nextSequences map[int32]int32
	unacked       []*eskerv1.ProduceStreamRequest_Batch
	number        uint64
}

type producing = grpc.BidiStreamingClient[eskerv1.ProduceStreamRequest, eskerv1.ProduceStreamResponse]

// NewSession does nothing yet.
func NewSession(agents *Agents, topic string) *Session {
	return &Session{agents: agents, topic: topic, nextSequences: map[int32]int32{}}
}

// Produce writes the batches and calls acknowledged for each of them, in order. It takes no more of them than agents keep up with.
// An ack is waited for when five batches are on their way, or when there are no more: a source that pauses holds back the last acks.
func (s *Session) Produce(ctx context.Context, batches iter.Seq[[]*eskerv1.Record], acknowledged func(*eskerv1.ProduceStreamResponse_Ack)) error {
	next, stop := iter.Pull(batches)
	defer stop()
	for {
		err := s.stream(ctx, next, acknowledged)
		if err == nil {
			return nil
		}
		if err := s.agents.MoveOn(ctx, err); err != nil {
			return err
		}
	}
}

func (s *Session) stream(ctx context.Context, next func() ([]*eskerv1.Record, bool), acknowledged func(*eskerv1.ProduceStreamResponse_Ack)) error {
	stream, err := s.open(ctx)
	if err != nil {
		return err
	}
	for _, batch := range s.unacked {
		if err := send(stream, batch); err != nil {
			return err
		}
	}
	for more := true; ; {
		for more && len(s.unacked) < unackedMax {
			var records []*eskerv1.Record
			if records, more = next(); !more {
				break
			}
			batch := &eskerv1.ProduceStreamRequest_Batch{Number: s.number, Records: records}
			s.number++
			s.unacked = append(s.unacked, batch)
			if err := send(stream, batch); err != nil {
				return err
			}
		}
		if len(s.unacked) == 0 {
			return stream.CloseSend()
		}
		ack, err := s.ack(stream)
		if err != nil {
			return err
		}
		acknowledged(ack)
	}
}

// open says what was acknowledged; what was not is sent again as it was.
func (s *Session) open(ctx context.Context) (producing, error) {
	connection, err := s.agents.Connection()
	if err != nil {
		return nil, err
	}
	stream, err := eskerv1.NewProducerClient(connection).ProduceStream(s.agents.Context(ctx))
	if err != nil {
		return nil, err
	}
	open := &eskerv1.ProduceStreamRequest_Open{Topic: s.topic, Session: s.session, NextSequences: s.nextSequences}
	if err := reason(stream, stream.Send(&eskerv1.ProduceStreamRequest{Step: &eskerv1.ProduceStreamRequest_Open_{Open: open}})); err != nil {
		return nil, err
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	s.session = answer.GetOpened().GetSession()
	return stream, nil
}

func send(stream producing, batch *eskerv1.ProduceStreamRequest_Batch) error {
	return reason(stream, stream.Send(&eskerv1.ProduceStreamRequest{Step: &eskerv1.ProduceStreamRequest_Batch_{Batch: batch}}))
}

// reason is why a stream is over: Send only says that it is, and Recv says why, after the answers that came before.
func reason(stream producing, err error) error {
	for err == io.EOF {
		var answer *eskerv1.ProduceStreamResponse
		if answer, err = stream.Recv(); err == nil {
			// An ack that is lost here comes again: the batch does.
			err = io.EOF
			if refused := answer.GetRefused(); refused != nil {
				return refusal(stream, refused)
			}
		}
	}
	return err
}

func (s *Session) ack(stream producing) (*eskerv1.ProduceStreamResponse_Ack, error) {
	answer, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if refused := answer.GetRefused(); refused != nil {
		return nil, refusal(stream, refused)
	}
	ack := answer.GetAck()
	if ack.Number != s.unacked[0].Number {
		return nil, fmt.Errorf("ack of batch %d where that of batch %d was due", ack.Number, s.unacked[0].Number)
	}
	s.unacked = s.unacked[1:]
	maps.Copy(s.nextSequences, ack.NextSequences)
	s.agents.Helped()
	return ack, nil
}

func refusal(stream producing, refused *eskerv1.ProduceStreamResponse_Refused) error {
	_, err := stream.Recv()
	return Refused{err, refused.Stored}
}
