'use strict'
// kafkajs as an administrator, a producer and a consumer: `node cases.js CASE HOST:PORT,…` exits 0 if the case holds, else says why on stderr.
// NODE_PATH says where kafkajs is. It names the cases itself: `node cases.js --list`.
const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const { Kafka, CompressionCodecs, CompressionTypes, ConfigResourceTypes, AclOperationTypes, AclPermissionTypes, AclResourceTypes,
  ResourcePatternTypes, logLevel } = require('kafkajs')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
const NOON = 1700000000000

const brokers = (process.argv[3] || '').split(',')
const kafka = new Kafka({ clientId: 'esker-kafkajs', brokers, logLevel: logLevel.NOTHING, retry: { initialRetryTime: 20, retries: 6 } })
const fresh = stem => `${stem}-${crypto.randomUUID().slice(0, 8)}`
const byPartition = entries => [...entries].sort((a, b) => a.partition - b.partition)

async function withAdmin(work) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await work(admin)
  } finally {
    await admin.disconnect()
  }
}

async function until(predicate, what, seconds = 20) {
  const deadline = Date.now() + seconds * 1000
  while (!(await predicate())) {
    assert.ok(Date.now() < deadline, `not within ${seconds} s: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

async function created(admin, stem, numPartitions = 1, configEntries = []) {
  const topic = fresh(stem)
  assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions, configEntries }] }), true)
  return topic
}

// Writes `each` records to each partition, timestamps a second apart.
async function filled(topic, partitions, each) {
  const producer = kafka.producer()
  await producer.connect()
  for (let partition = 0; partition < partitions; partition++) {
    const messages = Array.from({ length: each }, (_, n) => ({ partition, key: 'key', value: `value ${n}`, timestamp: String(NOON + n * 1000) }))
    const [answer] = await producer.send({ topic, messages })
    assert.deepEqual([answer.partition, answer.baseOffset, answer.errorCode], [partition, '0', 0])
  }
  await producer.disconnect()
}

const refusedAs = (...types) => error => {
  const found = [error.type, error.name, ...(error.errors || []).map(e => e.type), ...(error.groups || []).map(e => e.errorCode)]
  return types.some(type => found.includes(type)) || assert.fail(`expected ${types}, found ${found}: ${error.message}`)
}

const cases = {
  topics: () => withAdmin(async admin => {
    const topic = await created(admin, 'js-topics', 3, [{ name: 'retention.ms', value: '60000' }])
    assert.equal(await admin.createTopics({ topics: [{ topic }] }), false, 'a topic that is there is not created again')
    const only = fresh('js-never')
    await admin.createTopics({ validateOnly: true, waitForLeaders: false, topics: [{ topic: only }] })
    const listed = await admin.listTopics()
    assert.ok(listed.includes(topic) && !listed.includes(only), 'what is listed')
    await assert.rejects(admin.createTopics({ topics: [{ topic: fresh('js'), configEntries: [{ name: 'retention.ms', value: 'never' }] }] }),
      refusedAs('INVALID_CONFIG'))
    await assert.rejects(admin.createTopics({ topics: [{ topic: 'no/such/name' }] }), refusedAs('INVALID_TOPIC_EXCEPTION'))
    const cluster = await admin.describeCluster()
    assert.deepEqual(cluster.brokers.map(b => `${b.host}:${b.port}`).sort(), [...brokers].sort(), 'brokers')
    const nodes = cluster.brokers.map(b => b.nodeId)
    assert.ok(cluster.clusterId && nodes.includes(cluster.controller), 'id and controller')
    const told = (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0]
    assert.equal(told.name, topic)
    assert.deepEqual(told.partitions.map(p => p.partitionId).sort(), [0, 1, 2], 'partitions')
    assert.ok(told.partitions.every(p => p.partitionErrorCode === 0 && nodes.includes(p.leader) && p.replicas.length && p.isr.length), 'leaders')
    await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
    await until(async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length === 5, 'five partitions')
    await assert.rejects(admin.createPartitions({ topicPartitions: [{ topic, count: 2 }] }), refusedAs('INVALID_PARTITIONS'))
    await admin.deleteTopics({ topics: [topic] })
    await until(async () => !(await admin.listTopics()).includes(topic), 'the topic is gone')
    await assert.rejects(admin.deleteTopics({ topics: [topic] }), /does not host this topic-partition/)
  }),

  configs: () => withAdmin(async admin => {
    const topic = await created(admin, 'js-configs', 1, [{ name: 'retention.ms', value: '60000' }])
    const described = async (type, name, configNames) => {
      const [found] = (await admin.describeConfigs({ includeSynonyms: true, resources: [{ type, name, configNames }] })).resources
      assert.equal(found.errorCode, 0)
      return Object.fromEntries(found.configEntries.map(e => [e.configName, e]))
    }
    const of = ConfigResourceTypes.TOPIC
    const some = await described(of, topic, ['retention.ms', 'cleanup.policy'])
    assert.deepEqual(Object.keys(some).sort(), ['cleanup.policy', 'retention.ms'], 'only what was asked for')
    assert.deepEqual([some['retention.ms'].configValue, some['retention.ms'].configSource], ['60000', 1], 'a value of the topic')
    assert.deepEqual([some['cleanup.policy'].configValue, some['cleanup.policy'].isDefault], ['delete', true], 'a default')
    assert.equal(some['retention.ms'].configSynonyms[0].configValue, '60000', 'the first synonym')
    const alter = (value, validateOnly) => admin.alterConfigs({ validateOnly,
      resources: [{ type: of, name: topic, configEntries: [{ name: 'cleanup.policy', value }] }] })
    assert.equal((await alter('compact', true)).resources[0].errorCode, 0)
    assert.equal((await described(of, topic))['cleanup.policy'].configValue, 'delete', 'a value that was only to be validated')
    await alter('compact', false)
    const after = await described(of, topic)
    assert.deepEqual([after['cleanup.policy'].configValue, after['retention.ms'].configValue], ['compact', '604800000'], 'altering replaces all values')
    await assert.rejects(alter('neither', false), refusedAs('INVALID_CONFIG'))
    const node = String((await admin.describeCluster()).brokers[0].nodeId)
    assert.equal((await described(ConfigResourceTypes.BROKER, node))['message.max.bytes'].configValue, '1048588', 'message.max.bytes of a broker')
  }),

  offsets: () => withAdmin(async admin => {
    const [topic, groupId] = [await created(admin, 'js-offsets', 2), fresh('js-group')]
    await filled(topic, 2, 10)
    const ends = byPartition(await admin.fetchTopicOffsets(topic))
    assert.deepEqual(ends, [0, 1].map(partition => ({ partition, offset: '10', high: '10', low: '0' })), 'ends of the log')
    const at = async timestamp => byPartition(await admin.fetchTopicOffsetsByTimestamp(topic, timestamp)).map(p => p.offset)
    assert.deepEqual([await at(NOON + 2500), await at(NOON + 99000)], [['3', '3'], ['10', '10']], 'offsets by time')
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }, { partition: 1, offset: '-1' }] })
    const lows = async () => byPartition(await admin.fetchTopicOffsets(topic)).map(p => p.low)
    assert.deepEqual(await lows(), ['4', '10'], 'where the logs start')
    await assert.rejects(admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '11' }] }), /Error while deleting records/)
    assert.deepEqual(await lows(), ['4', '10'], 'where they start after an offset that was refused')
  }),

  // kafkajs needs five seconds for each of these, so they are done at once.
  group_offsets: () => withAdmin(async admin => {
    const topic = await created(admin, 'js-offsets', 2)
    await filled(topic, 2, 10)
    const committed = async (groupId, options) =>
      byPartition((await admin.fetchOffsets({ groupId, topics: [topic], ...options }))[0].partitions).map(p => p.offset)
    const [set, start, end] = [fresh('js-set'), fresh('js-start'), fresh('js-end')]
    // Kafka has no coordinator until its topic of offsets is there, and kafkajs does not ask again.
    await until(() => committed(set).then(found => { assert.deepEqual(found, ['-1', '-1']); return true }, error => {
      assert.match(error.type, /NOT_COORDINATOR_FOR_GROUP|GROUP_LOAD_IN_PROGRESS/)
    }), 'offsets of a group that is not there')
    await Promise.all([
      admin.setOffsets({ groupId: set, topic, partitions: [{ partition: 0, offset: '4' }, { partition: 1, offset: '6' }] }),
      admin.resetOffsets({ groupId: start, topic, earliest: true }),
      admin.resetOffsets({ groupId: end, topic }),
    ])
    assert.deepEqual(await committed(set), ['4', '6'], 'offsets that were set')
    assert.deepEqual((await admin.fetchOffsets({ groupId: set })).map(t => t.topic), [topic], 'all topics of the group')
    // It commits where to begin as -2 and -1, and goes by what it reads back.
    assert.deepEqual([await committed(start), await committed(end)], [['-2', '-2'], ['-1', '-1']], 'offsets that were reset')
    const resolved = await Promise.all([start, end].map(group => committed(group, { resolveOffsets: true })))
    assert.deepEqual(resolved, [['0', '0'], ['10', '10']], 'the same, resolved')
    assert.deepEqual([await committed(start), await committed(end)], resolved, 'and so committed')
  }),

  groups: () => withAdmin(async admin => {
    const [topic, groupId] = [await created(admin, 'js-groups', 2), fresh('js-group')]
    await filled(topic, 2, 5)
    const consumer = kafka.consumer({ groupId })
    const seen = await running(consumer, topic)
    await until(() => seen.length === 10, 'everything is read')
    const overview = (await admin.listGroups()).groups.find(g => g.groupId === groupId)
    assert.deepEqual(overview, { groupId, protocolType: 'consumer' }, 'as it is listed')
    const [told] = (await admin.describeGroups([groupId])).groups
    assert.deepEqual([told.errorCode, told.state, told.protocolType, told.protocol], [0, 'Stable', 'consumer', 'RoundRobinAssigner'], 'the group')
    assert.deepEqual(told.members.map(m => m.clientId), ['esker-kafkajs'], 'its members')
    assert.ok(told.members[0].memberMetadata.length && told.members[0].memberAssignment.length, 'metadata and assignment')
    await assert.rejects(admin.deleteGroups([groupId]), error => error.groups[0].errorCode === 68)
    await assert.rejects(admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '0' }] }), /no running instances/)
    await consumer.disconnect()
    await until(async () => (await admin.describeGroups([groupId])).groups[0].state === 'Empty', 'the group is empty')
    assert.deepEqual((await admin.deleteGroups([groupId])).map(g => [g.groupId, g.errorCode]), [[groupId, 0]], 'deleted')
    assert.ok(!(await admin.listGroups()).groups.some(g => g.groupId === groupId), 'a deleted group is listed')
    assert.equal((await admin.describeGroups([groupId])).groups[0].state, 'Dead', 'its state')
    await assert.rejects(admin.deleteGroups([groupId]), error => error.groups[0].errorCode === 69)
  }),

  // What is not there is refused clearly, and the connection goes on.
  refusals: () => withAdmin(async admin => {
    const filter = { resourceType: AclResourceTypes.TOPIC, resourceName: 'js', resourcePatternType: ResourcePatternTypes.LITERAL,
      principal: 'User:js', host: '*', operation: AclOperationTypes.ALL, permissionType: AclPermissionTypes.ALLOW }
    const clearly = refusedAs('SECURITY_DISABLED', 'KafkaJSServerDoesNotSupportApiKey')
    await assert.rejects(admin.describeAcls(filter), clearly)
    await assert.rejects(admin.createAcls({ acl: [filter] }), clearly)
    await assert.rejects(admin.deleteAcls({ filters: [filter] }), clearly)
    const topic = await created(admin, 'js-move')
    assert.deepEqual((await admin.listPartitionReassignments({ topics: [{ topic, partitions: [0] }] })).topics, [], 'reassignments')
    await assert.rejects(admin.alterPartitionReassignments({ topics: [{ topic, partitionAssignment: [{ partition: 0, replicas: [4711] }] }] }),
      refusedAs('INVALID_REPLICA_ASSIGNMENT'))
    assert.equal((await admin.describeCluster()).brokers.length, brokers.length, 'brokers, after that')
  }),

  records: () => withAdmin(async admin => {
    const topic = await created(admin, 'js-records')
    const expected = []
    for (const [number, compression] of [CompressionTypes.None, CompressionTypes.GZIP, CompressionTypes.Snappy].entries()) {
      const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
      await producer.connect()
      const messages = Array.from({ length: 100 }, (_, n) => ({ key: 'key', value: `${compression} ${n} `.repeat(40),
        timestamp: String(NOON + number * 1000), headers: { one: '1', several: ['2', '3'] } }))
      messages.push({ key: 'key', value: null, timestamp: String(NOON + number * 1000) })
      const [answer] = await producer.send({ topic, compression, acks: -1, messages })
      assert.equal(answer.baseOffset, String(expected.length), 'the first offset')
      expected.push(...messages)
      await producer.disconnect()
    }
    const consumer = kafka.consumer({ groupId: fresh('js-group'), maxWaitTimeInMs: 100 })
    const seen = await running(consumer, topic)
    await until(() => seen.length >= expected.length, 'everything is read')
    const text = headers => Object.fromEntries(Object.entries(headers || {}).map(([k, v]) => [k, [v].flat().map(String)]))
    assert.deepEqual(seen.map(m => [m.offset, m.timestamp, m.value && m.value.toString(), text(m.headers)]),
      expected.map((m, n) => [String(n), m.timestamp, m.value, text(m.headers)]), 'what was read')
    consumer.pause([{ topic }])
    assert.deepEqual(consumer.paused(), [{ topic, partitions: [0] }], 'what is paused')
    seen.length = 0
    consumer.seek({ topic, partition: 0, offset: '250' })
    const producer = kafka.producer()
    await producer.connect()
    await producer.send({ topic, messages: [{ value: 'last' }] })
    await producer.disconnect()
    assert.equal(seen.length, 0, 'records while it is paused')
    consumer.resume([{ topic }])
    // What it had asked for before the pause may come as well, and come again.
    const offsets = () => [...new Set(seen.map(m => Number(m.offset)))].sort((a, b) => a - b)
    await until(() => offsets().length >= 54, 'what comes after the offset')
    assert.deepEqual(offsets(), Array.from({ length: 54 }, (_, n) => 250 + n), 'what was read')
    assert.equal(seen.find(m => m.offset === '303').value.toString(), 'last', 'the last of it')
    await consumer.disconnect()
  }),

  // A second member takes half of the partitions and, when the first has left, the rest.
  group_of_two: () => withAdmin(async admin => {
    const [topic, groupId] = [await created(admin, 'js-two', 4), fresh('js-group')]
    await filled(topic, 4, 25)
    const member = async () => {
      const consumer = kafka.consumer({ groupId, heartbeatInterval: 200, sessionTimeout: 10000, maxWaitTimeInMs: 100 })
      const found = { consumer, partitions: [] }
      consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => { found.partitions = payload.memberAssignment[topic] || [] })
      found.seen = await running(consumer, topic)
      return found
    }
    const first = await member()
    await until(() => first.seen.length === 100, 'the first member has read everything')
    const second = await member()
    await until(() => first.partitions.length === 2 && second.partitions.length === 2, 'two partitions each')
    assert.deepEqual([...first.partitions, ...second.partitions].sort(), [0, 1, 2, 3], 'all partitions of the two')
    const producer = kafka.producer()
    await producer.connect()
    await producer.send({ topic, messages: Array.from({ length: 40 }, (_, n) => ({ partition: n % 4, value: 'later' })) })
    await until(() => first.seen.length + second.seen.length === 140, 'both have read the rest')
    assert.equal(second.seen.length, 20, 'records of the second member')
    const left = first.partitions[0]
    await first.consumer.disconnect()
    await until(() => second.partitions.length === 4, 'the second member has all partitions')
    await producer.send({ topic, messages: [{ partition: left, value: 'last' }] })
    await until(() => second.seen.length === 21, 'the second member has read the last record')
    await second.consumer.disconnect()
    await producer.disconnect()
    const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] })
    assert.equal(partitions.reduce((sum, p) => sum + Number(p.offset), 0), 141, 'committed offsets')
  }),
}

// Starts a consumer; what it reads is appended to the array that is returned.
async function running(consumer, topic) {
  const seen = []
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({ autoCommitThreshold: 1, eachMessage: async ({ message }) => { seen.push(message) } })
  return seen
}

if (process.argv[2] === '--list') {
  console.log(Object.keys(cases).join('\n'))
} else {
  cases[process.argv[2]]().then(() => process.exit(0), error => {
    console.error(error.stack)
    process.exit(1)
  })
}
