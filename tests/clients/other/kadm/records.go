package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// records: what is written with each codec comes back as it was, and is found by time.
func (s *suite) records() {
	topic := s.created("go-records", 1, nil)
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	headers := []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "none", Value: nil}}
	var expected []string
	for number, codec := range codecs {
		client := s.newClient(kgo.ProducerBatchCompression(codec))
		var records []*kgo.Record
		for n := range 100 {
			value := []byte(strings.Repeat(fmt.Sprintf("%d %d ", number, n), 40))
			records = append(records, &kgo.Record{Topic: topic, Key: []byte("key"), Value: value, Headers: headers, Timestamp: time.UnixMilli(noon + int64(number)*1000)})
		}
		records = append(records, &kgo.Record{Topic: topic, Key: []byte("key"), Timestamp: time.UnixMilli(noon + int64(number)*1000)})
		must(client.ProduceSync(s, records...).FirstErr(), "produce")
		for _, record := range records {
			expected = append(expected, shown(record))
		}
		client.Close()
	}
	from := func(offset kgo.Offset, count int) []string {
		client := s.newClient(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: offset}}))
		defer client.Close()
		var found []string
		for len(found) < count {
			fetches := client.PollFetches(s)
			must(fetches.Err(), "poll")
			fetches.EachRecord(func(record *kgo.Record) { found = append(found, shown(record)) })
		}
		return found
	}
	equal(from(kgo.NewOffset().AtStart(), len(expected)), expected, "what was read")
	equal(from(kgo.NewOffset().AfterMilli(noon+1500), 303), expected[202:], "what was read from a time on")
	equal(from(kgo.NewOffset().AtEnd().Relative(-2), 2), expected[503:], "the last two")
}

func shown(record *kgo.Record) string {
	return fmt.Sprintf("%d %d %q %q %v %v", record.Offset, record.Timestamp.UnixMilli(), record.Key, record.Value, record.Value == nil, record.Headers)
}

// member is a consumer of a group with a goroutine of its own, which commits what it has read.
type member struct {
	mutex    sync.Mutex
	client   *kgo.Client
	seen     map[string]int
	assigned map[int32]bool
	done     chan struct{}
}

func (s *suite) newMember(topic, group string) *member {
	m := &member{seen: map[string]int{}, assigned: map[int32]bool{}, done: make(chan struct{})}
	change := func(to bool) func(map[string][]int32) {
		return func(partitions map[string][]int32) {
			m.mutex.Lock()
			defer m.mutex.Unlock()
			for _, partition := range partitions[topic] {
				m.assigned[partition] = to
			}
		}
	}
	given, taken := change(true), change(false)
	m.client = s.newClient(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.HeartbeatInterval(200*time.Millisecond), kgo.SessionTimeout(10*time.Second), kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) { given(partitions) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) { taken(partitions) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) { taken(partitions) }))
	go func() {
		defer close(m.done)
		for {
			fetches := m.client.PollFetches(s)
			if fetches.IsClientClosed() || s.Err() != nil {
				return
			}
			m.mutex.Lock()
			fetches.EachRecord(func(record *kgo.Record) { m.seen[fmt.Sprintf("%d/%d", record.Partition, record.Offset)]++ })
			m.mutex.Unlock()
			_ = m.client.CommitUncommittedOffsets(s) // what was not committed is missed at the end
		}
	}()
	return m
}

func (m *member) counts() (seen, assigned int) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, is := range m.assigned {
		if is {
			assigned++
		}
	}
	return len(m.seen), assigned
}

// groupOfTwo: a second member takes half of the partitions, and when the first has left, the rest.
func (s *suite) groupOfTwo() {
	topic, group := s.created("go-two", 4, nil), fresh("go-group")
	s.filled(topic, 4, 25)
	first := s.newMember(topic, group)
	s.until("the first member has read everything", func() bool { seen, _ := first.counts(); return seen == 100 })
	second := s.newMember(topic, group)
	s.until("two partitions each", func() bool {
		_, one := first.counts()
		_, two := second.counts()
		return one == 2 && two == 2
	})
	client := s.newClient(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer client.Close()
	write := func() {
		for partition := range int32(4) {
			must(client.ProduceSync(s, &kgo.Record{Topic: topic, Partition: partition, Value: []byte("later")}).FirstErr(), "produce")
		}
	}
	write()
	s.until("both have read the rest", func() bool {
		one, _ := first.counts()
		two, _ := second.counts()
		return one == 102 && two == 2
	})
	first.client.Close()
	<-first.done
	s.until("the second member has all partitions", func() bool { _, assigned := second.counts(); return assigned == 4 })
	write()
	s.until("the second member has read the last records", func() bool { seen, _ := second.counts(); return seen == 6 })
	total := func() (sum int64) {
		for _, one := range got(s.client.FetchOffsets(s, group))[topic] {
			sum += one.At
		}
		return sum
	}
	s.until("all of it is committed", func() bool { return total() == 108 })
	second.client.Close()
	<-second.done
	for _, m := range []*member{first, second} {
		for at, times := range m.seen {
			equal(times, 1, "how often a member saw "+at)
		}
	}
}
