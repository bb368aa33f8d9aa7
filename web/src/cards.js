// Each card of the page: what the relay said, as elements.
import { bitRate, bytes, clock, duration, joined, packetRate } from './format.js';
import { h, head, table } from './dom.js';

const sum = (kinds, what) => Object.values(kinds).reduce((total, kind) => total + (what ? kind[what] : kind), 0);
const sorted = (object) => Object.entries(object).sort(([, a], [, b]) => b - a);
const count = (value, language) => value.toLocaleString(language);
const badge = (kind, text) => h(`span.badge.${kind}`, null, text);
const rateOrDash = (value) => (typeof value === 'number' ? joined(bitRate(value)) : '–');
/** Seconds from `text` (of the relay's clock) to now (of the same clock). */
const secondsSince = (text, status) => (Date.parse(status.at) - Date.parse(text)) / 1000;

/** Renewal begins when 30 days or a third of the life are left: a quarter later it is late, and in the
 *  last week (the last sixth of a short life) it is grave. */
export function certificateState({ serving, daysLeft, lifetimeDays }) {
  if (!serving || daysLeft < Math.min(7, lifetimeDays / 6)) return 'bad';
  return daysLeft < Math.min(30, lifetimeDays / 3) * 0.75 ? 'warn' : 'good';
}

export function stateOf(status, t) {
  if (status.state !== 'serving') return [status.state === 'draining' ? 'warn' : 'bad', t[status.state] ?? status.state];
  return status.unready ? ['bad', t.notReady] : ['good', t.serving];
}

export function troubles(status, t) {
  const list = [];
  if (status.state === 'draining') list.push(t.troubleDrain(duration(status.drainLeftSeconds ?? 0)));
  if (status.unready) list.push(t.troubleReady(status.unready));
  if (status.silentWorkers.length) list.push(t.troubleSilent(status.silentWorkers.join(', ')));
  for (const one of status.certificates) {
    if (certificateState(one) === 'bad')
      list.push(t.troubleCertificate(one.name, one.serving ? t.certificateEnds(Math.floor(one.daysLeft)) : t.certificateNone));
  }
  return list.map((text) => h('li', null, text));
}

export function tiles(status, t, language) {
  const { totals, perSecond } = status;
  const tile = (label, [number, unit], note) => h('div.tile', null, h('div.label', null, label),
    h('div.value', null, number, unit ? h('small', null, ` ${unit}`) : null), h('div.note', null, note));
  return [
    tile(t.clients, [count(totals.clients, language), ''], t.atHome(count(totals.homeClients, language))),
    tile(t.received, bitRate(perSecond.receivedBytes), t.inAll(bytes(sum(totals.received, 'bytes')))),
    tile(t.sent, bitRate(perSecond.sentBytes), t.inAll(bytes(sum(totals.sent, 'bytes')))),
    tile(t.packets, packetRate(perSecond.receivedPackets), t.inAll(count(sum(totals.received, 'packets'), language))),
    tile(t.dropped, packetRate(perSecond.dropped), t.droppedNote(count(sum(totals.dropped), language))),
    tile(t.cpu, [perSecond.cpu.toFixed(2), t.cores], t.memory(bytes(totals.memoryBytes))),
  ];
}

export function clients(status, t, language) {
  const columns = [
    { title: t.client, kind: 'name', make: (c) => (c.name ? [c.name, h('span.mono', null, c.shortKey)] : [c.app || null, h('span.mono', null, c.shortKey)]) },
    { title: t.address, kind: 'nowrap', make: (c) => h('span.mono', null, c.address) },
    { title: t.received, hint: t.receivedHint, number: true, make: (c) => rateOrDash(c.receivedPerSecond) },
    { title: t.sent, hint: t.sentHint, number: true, make: (c) => rateOrDash(c.sentPerSecond) },
    { title: t.amount, hint: t.amountHint, number: true, make: (c) => bytes(c.receivedBytes + c.sentBytes) },
    { title: t.rtt, number: true, make: (c) => (c.tcp ? `${c.tcp.rttMs.toFixed(1)} ms` : '–') },
    { title: t.drops, hint: t.dropsHint, number: true, make: (c) => count(sum(c.dropped), language) },
    { title: t.since, number: true, make: (c) => duration(c.connectedSeconds) },
    { title: t.flags, make: (c) => c.flags.join(', ') },
  ];
  const { unlisted } = status;
  return [
    head(t.busiest, status.clients.length ? t.busiestNote(status.clients.length, count(status.totals.clients, language)) : ''),
    table(t.busiest, columns, status.clients, t.noClients),
    unlisted.clients > 0 ? h('p.soft.small', null, t.rest(count(unlisted.clients, language), joined(bitRate(unlisted.receivedPerSecond)), joined(bitRate(unlisted.sentPerSecond)))) : null,
  ];
}

export function pairs(status, t) {
  const end = (name, key) => (name ? h('span', null, name) : h('span.mono', null, key.slice(0, 16)));
  const seconds = status.pairsSeconds || 1;
  const columns = [
    { title: t.from, kind: 'name', make: (p) => [end(p.nameA, p.a), ' ↔ ', end(p.nameB, p.b)] },
    { title: '→', number: true, make: (p) => joined(bitRate(p.bytesFromA / seconds)) },
    { title: '←', number: true, make: (p) => joined(bitRate(p.bytesFromB / seconds)) },
  ];
  return [head(t.pairs, status.pairs.length ? t.pairsNote(Math.round(seconds)) : ''), table(t.pairs, columns, status.pairs, t.noPairs)];
}

export function drops(status, t, language) {
  const rows = sorted(status.totals.dropped).filter(([, packets]) => packets > 0);
  const columns = [
    { title: t.reason, kind: 'name', make: ([reason]) => [t.reasons[reason] ?? reason, h('span.mono', null, reason)] },
    { title: t.inTotal, number: true, make: ([, packets]) => count(packets, language) },
    { title: t.rate, number: true, make: ([reason]) => packetRate(status.droppedPerSecond[reason] ?? 0).join(' ') },
  ];
  return [head(t.dropsByReason), table(t.dropsByReason, columns, rows, t.noDrops)];
}

export function certificates(status, t) {
  const item = (one) => h('li', null, h('span', null, one.name),
    badge(certificateState(one), one.serving ? t.daysLeft(Math.floor(one.daysLeft)) : t.noCertificate),
    one.serving ? h('span.full.soft.small', null, t.expires(one.notAfter.slice(0, 10))) : null,
    one.lastError ? h('span.full.bad.small', null, t.renewalFailed(one.lastError)) : null);
  return [head(t.certificates), status.certificates.length ? h('ul.items', null, status.certificates.map(item)) : h('p.empty', null, t.noTls)];
}

export function admission(status, t, language) {
  const told = status.admission;
  if (!told.checking) return [head(t.admission, null), h('p', null, badge('warn', t.everybody)), h('p.soft.small', null, t.everybodyFix)];
  const source = (one) => h('li', null, h('span', null, t.source[one.kind] ?? one.kind, h('span.soft.small', null, ` ${one.where || t.usualPlace}`)),
    one.asked ? badge(one.failing ? 'bad' : 'good', one.failing ? t.fails : t.answers) : badge('plain', t.notAsked),
    one.failing ? h('span.full.bad.small', null, one.lastError) : null);
  const file = told.allowFile;
  const logins = told.logins;
  return [
    head(t.admission, told.waiting ? t.waiting(count(told.waiting, language)) : ''),
    h('ul.items', null,
      file ? h('li', null, h('span', null, t.allowFile, h('span.soft.small', null, ` ${file.path}`)),
        badge(file.stale ? 'bad' : 'good', file.stale ? t.stale : t.keys(count(file.keys, language)))) : null,
      told.sources.map(source),
      logins ? h('li', null, h('span', null, t.loginsAllowed), h('span', null, count(logins.allowed + logins.failedOpen, language),
        ` · ${t.loginsRefused} `, count(logins.denied + logins.undecided + logins.busy, language))) : null),
  ];
}

const findingKinds = { FAIL: 'bad', WARN: 'warn', INFO: 'plain', PASS: 'good' };

export function doctor(status, t) {
  const visit = status.doctor;
  if (!visit) return [head(t.doctor), h('p', null, t.doctorNever), h('div.finding', null, h('pre', null, 'sudo detour doctor'))];
  const finding = (one) => h('div.finding', null,
    h('div.title', null, badge(findingKinds[one.state], t.states[one.state]), h('span.mono.soft', null, one.code), h('b', null, one.check)),
    h('p', null, one.cause), one.fix ? h('pre', null, one.fix) : null);
  const all = visit.sections.flatMap((section) => section.findings);
  const folded = (state, title) => {
    const some = all.filter((one) => one.state === state);
    return some.length ? h('details', null, h('summary', null, title(some.length)), some.map(finding)) : null;
  };
  const several = visit.sections.length > 1;
  const grave = visit.sections.map((section) => {
    const some = section.findings.filter((one) => one.state === 'FAIL' || one.state === 'WARN')
      .sort((a, b) => (a.state === b.state ? 0 : a.state === 'FAIL' ? -1 : 1));
    return some.length ? [several ? h('p.section-title', null, section.title) : null, some.map(finding)] : [];
  }).flat(Infinity);
  return [
    head(t.doctor, t.doctorAt(clock(Date.parse(visit.at) / 1000), duration(secondsSince(visit.at, status)))),
    grave.length ? grave : h('p', null, badge('good', t.doctorWell)),
    folded('INFO', t.infos), folded('PASS', t.passed),
    visit.leftOut ? h('p.soft.small', null, t.leftOut(visit.leftOut)) : null,
  ];
}

export function mesh(status, t) {
  const item = (one) => h('li', null, h('span', null, one.name, h('span.soft.small', null, one.address ? ` ${one.address}` : '')),
    badge(one.up ? 'good' : 'bad', one.up ? t.up : t.down),
    h('span.full.soft.small', null, one.up ? t.meshSent(bytes(one.sentBytes)) : one.lastFailure));
  return [head(t.mesh), h('ul.items', null, status.mesh.map(item))];
}

export function relay(status, t, language) {
  const { totals, perSecond } = status;
  const rows = [
    [t.version, status.version],
    [t.uptime, duration(status.uptimeSeconds)],
    [t.machine, status.machine],
    [t.listening, status.listening.map((one) => h('dd', null, h('span.mono', null, one.address), ' ', h('span.soft.small', null, t.what[one.what] ?? one.what)))],
    [t.stun, t.stunNote(count(totals.stunAnswered, language), packetRate(perSecond.stunAnswers).join(' '))],
    [t.logins, t.loginsNote(count(totals.logins, language), count(totals.loginsFailed, language))],
    [t.workers, `${status.workers}`],
    [t.files, t.filesNote(count(totals.openFiles, language), count(totals.openFilesMax, language))],
    [t.publicKey, h('span.mono', null, status.publicKey)],
  ];
  return [head(t.relay), h('dl', null, rows.map(([name, value]) => [h('dt', null, name), Array.isArray(value) ? value : h('dd', null, value)]))];
}
