// What of the page needs no browser: numbers and texts. Run by web/build --check.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { certificateState } from '../src/cards.js';
import { bitRate, bytes, clock, compact, duration, joined, packetRate } from '../src/format.js';
import { languages } from '../src/texts.js';

test('rates are in bit/s with three digits', () => {
  for (const [value, text] of [
    [0, '0 bit/s'], [1, '8 bit/s'], [0.0625, '0.50 bit/s'], [124.8, '998 bit/s'], [124.9375, '1.00 kbit/s'], [125, '1.00 kbit/s'],
    [1250, '10.0 kbit/s'], [12500, '100 kbit/s'], [1.25e6, '10.0 Mbit/s'], [1.25e9, '10.0 Gbit/s'], [1.25e17, '1000 Pbit/s'],
  ]) assert.equal(joined(bitRate(value)), text);
  assert.equal(joined(packetRate(12345)), '12.3 k/s');
  assert.equal(joined(packetRate(0)), '0 /s');
  assert.equal(bytes(1.5e6), '1.50 MB');
  assert.equal(bytes(999), '999 B');
  assert.equal(compact(2.5e6), '2.5M');
  assert.equal(compact(0), '0');
});

test('times have two units', () => {
  for (const [seconds, text] of [[0, '0s'], [59.9, '59s'], [60, '1m 0s'], [3599, '59m 59s'], [3600, '1h 0m'], [86399, '23h 59m'], [90000, '1d 1h'], [-1, '0s']])
    assert.equal(duration(seconds), text);
  const noon = new Date(2026, 0, 2, 12, 5, 9).getTime() / 1000;
  assert.equal(clock(noon), '12:05');
  assert.equal(clock(noon, true), '12:05:09');
});

test('certificates are judged by how long they live', () => {
  for (const [lifetimeDays, daysLeft, state] of [
    [90, 89, 'good'], [90, 22.5, 'good'], [90, 22.4, 'warn'], [90, 7, 'warn'], [90, 6.9, 'bad'], [90, 0, 'bad'],
    [6, 5.9, 'good'], [6, 1.5, 'good'], [6, 1.4, 'warn'], [6, 1, 'warn'], [6, 0.9, 'bad'], [3652, 3651, 'good'], [3652, 20, 'warn'],
  ]) assert.equal(certificateState({ serving: true, daysLeft, lifetimeDays }), state, `${daysLeft} of ${lifetimeDays}`);
  assert.equal(certificateState({ serving: false, daysLeft: null, lifetimeDays: null }), 'bad');
});

test('all languages have the same texts', () => {
  const shape = (texts) => Object.entries(texts).map(([name, text]) => [name, typeof text, text.length > 0 || typeof text === 'function',
    typeof text === 'object' ? shape(text) : typeof text === 'function' ? text.length : 0]).sort();
  for (const texts of Object.values(languages)) assert.deepEqual(shape(texts), shape(languages.en));
  // What is meant to be Chinese is.
  for (const name of Object.keys(languages.zh)) {
    const [zh, en] = [languages.zh[name], languages.en[name]];
    if (typeof zh === 'string' && zh === en) assert.ok(['CPU', 'STUN'].includes(zh), `${name} is not translated`);
  }
});
