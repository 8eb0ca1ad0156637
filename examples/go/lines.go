package main

import (
	"encoding/json"

	"esker.dev/examples/eskerv1"
)

// A line is a record as the tools read and write it: JSON, as those of examples/python. null is null, which is something else than
// empty. What is not UTF-8 cannot be written so.
type line struct {
	Topic     *string      `json:"topic,omitempty"`
	Partition *int32       `json:"partition,omitempty"`
	Offset    *int64       `json:"offset,omitempty"`
	Timestamp *int64       `json:"timestamp"`
	Key       *string      `json:"key"`
	Value     *string      `json:"value"`
	Headers   [][2]*string `json:"headers"`
}

// recordOf reads a record to be written.
func recordOf(text []byte) (*eskerv1.Record, error) {
	var read line
	if err := json.Unmarshal(text, &read); err != nil {
		return nil, err
	}
	record := &eskerv1.Record{Partition: read.Partition, Key: toBytes(read.Key), Value: toBytes(read.Value), TimestampMs: read.Timestamp}
	for _, header := range read.Headers {
		var name string
		if header[0] != nil {
			name = *header[0]
		}
		record.Headers = append(record.Headers, &eskerv1.Header{Name: name, Value: toBytes(header[1])})
	}
	return record, nil
}

// lineOf is a record that was read.
func lineOf(topic string, partition int32, record *eskerv1.ConsumedRecord) line {
	headers := make([][2]*string, 0, len(record.Headers))
	for _, header := range record.Headers {
		headers = append(headers, [2]*string{&header.Name, toText(header.Value)})
	}
	return line{
		Topic: &topic, Partition: &partition, Offset: &record.Offset, Timestamp: &record.TimestampMs,
		Key: toText(record.Key), Value: toText(record.Value), Headers: headers,
	}
}

// toBytes: to protobuf, nil is absent, and that is null; empty is something else.
func toBytes(text *string) []byte {
	if text == nil {
		return nil
	}
	return append([]byte{}, *text...)
}

func toText(data []byte) *string {
	if data == nil {
		return nil
	}
	text := string(data)
	return &text
}
