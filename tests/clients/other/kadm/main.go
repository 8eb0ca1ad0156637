// kadm asks a cluster what an administrator asks, through franz-go (which kcl, the command, is a thin cover of): `kadm CASE HOST:PORT,…` exits 0
// if the case holds, else says why on stderr. `kadm --list` names the cases.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Milliseconds; records of these tests are a second apart.
const noon = 1_700_000_000_000

type suite struct {
	context.Context
	seeds  []string
	client *kadm.Client
}

type testCase struct {
	name string
	run  func(*suite)
}

var cases = []testCase{
	{"topics", (*suite).topics},
	{"configs", (*suite).configs},
	{"offsets", (*suite).offsets},
	{"groups", (*suite).groups},
	{"cluster", (*suite).cluster},
	{"quotas_and_scram", (*suite).quotasAndScram},
	{"refusals", (*suite).refusals},
	{"records", (*suite).records},
	{"group_of_two", (*suite).groupOfTwo},
}

// failure is what a case panics with.
type failure string

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--list" {
		for _, one := range cases {
			fmt.Println(one.name)
		}
		return
	}
	for _, one := range cases {
		if len(os.Args) == 3 && one.name == os.Args[1] {
			os.Exit(runOne(one, strings.Split(os.Args[2], ",")))
		}
	}
	fmt.Fprintln(os.Stderr, "usage: kadm CASE HOST:PORT,…")
	os.Exit(2)
}

func runOne(one testCase, seeds []string) (code int) {
	timed, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	defer cancel()
	s := &suite{Context: timed, seeds: seeds}
	s.client = kadm.NewClient(s.newClient())
	defer s.client.Close()
	defer func() {
		if why, failed := recover().(failure); failed {
			fmt.Fprintln(os.Stderr, string(why))
			code = 1
		}
	}()
	one.run(s)
	return 0
}

func (s *suite) newClient(options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(s.seeds...), kgo.ClientID("esker-kadm"), kgo.MetadataMinAge(20 * time.Millisecond)}, options...)...)
	must(err, "client")
	return client
}

func must(err error, what string) {
	if err != nil {
		panic(failure(fmt.Sprintf("%s: %v", what, err)))
	}
}

func got[T any](value T, err error) T {
	must(err, "call")
	return value
}

func check(condition bool, what string, values ...any) {
	if !condition {
		panic(failure(fmt.Sprintf(what, values...)))
	}
}

func equal[T any](found, expected T, what string) {
	check(reflect.DeepEqual(found, expected), "%s: expected %v, found %v", what, expected, found)
}

func refused(err, expected error, what string) {
	check(errors.Is(err, expected), "%s: expected %v, found %v", what, expected, err)
}

func (s *suite) until(what string, predicate func() bool) {
	for !predicate() {
		select {
		case <-s.Done():
			panic(failure("never: " + what))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func fresh(stem string) string {
	unique := make([]byte, 4)
	_, _ = rand.Read(unique)
	return stem + "-" + hex.EncodeToString(unique)
}

// created makes a topic and waits until all its partitions have leaders.
func (s *suite) created(stem string, partitions int32, configs map[string]*string) string {
	topic := fresh(stem)
	got(s.client.CreateTopic(s, partitions, 1, configs, topic))
	s.until("leaders of "+topic, func() bool {
		told := got(s.client.ListTopics(s, topic))[topic]
		leaders := 0
		for _, partition := range told.Partitions {
			if partition.Err == nil && partition.Leader >= 0 {
				leaders++
			}
		}
		return told.Err == nil && leaders == int(partitions)
	})
	return topic
}

// filled writes `each` records to each partition.
func (s *suite) filled(topic string, partitions int32, each int) {
	client := s.newClient(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer client.Close()
	for partition := int32(0); partition < partitions; partition++ {
		var records []*kgo.Record
		for n := range each {
			record := &kgo.Record{Topic: topic, Partition: partition, Value: []byte("value " + strconv.Itoa(n)), Timestamp: time.UnixMilli(noon + int64(n)*1000)}
			records = append(records, record)
		}
		for n, result := range client.ProduceSync(s, records...) {
			must(result.Err, "produce")
			equal(result.Record.Offset, int64(n), "offset")
		}
	}
}
