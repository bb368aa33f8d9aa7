// The status page: asks the relay every two seconds while somebody looks, and shows what it says.
import * as cards from './cards.js';
import { Chart } from './charts.js';
import { byId, fill } from './dom.js';
import { bits, clock, duration, packetRate } from './format.js';
import * as preferences from './preferences.js';
import { languages } from './texts.js';

const period = 2000; // Milliseconds from an answer to the next question.
const patience = 10000; // Until a question counts as unanswered.
const rowsMax = 720;

let status = null; // The last answer.
let seenAt = 0; // When it came.
let run = ''; // Of which relay the rows are ...
let rows = []; // ... its history, oldest first ...
let next = 0; // ... and the number of the first sample that is not in them.
let charts = null;
let timer = 0;
let isAsking = false;
let problem = ''; // What the relay said instead of an answer.
let isAway = false; // The last question got no answer at all.
let tokenWasWrong = false;

const language = () => (languages[preferences.language.get()] ? preferences.language.get() : 'en');
const text = () => languages[language()];

// --- What the relay says

function takeHistory(history) {
  const named = history.rows.map((row) => Object.fromEntries(history.columns.map((name, i) => [name, row[i]])));
  rows = (run === status.run ? rows : []).concat(named).slice(-rowsMax);
  run = status.run;
  next = history.next;
}

async function ask() {
  const token = preferences.token.get();
  const response = await fetch(`status.json?run=${encodeURIComponent(run)}&next=${next}`, {
    headers: token ? { Authorization: `Bearer ${token}` } : {},
    cache: 'no-store', credentials: 'omit', redirect: 'error', signal: AbortSignal.timeout(patience),
  });
  if (response.status === 401) {
    tokenWasWrong = token !== '';
    return askForToken();
  }
  if (!response.ok) {
    problem = text().answered(response.status, (await response.text()).trim().slice(0, 1000));
    byId('refused').hidden = false;
    byId('refused').textContent = problem;
    return later();
  }
  const answer = await response.json();
  // Another relay may come with another page.
  if (status && status.version !== answer.version) return window.location.reload();
  status = answer;
  seenAt = Date.now();
  problem = '';
  takeHistory(status.history);
  byId('refused').hidden = true;
  byId('ask').hidden = true;
  show();
  return later();
}

/** One question at a time, and none while nobody looks. */
async function poll() {
  window.clearTimeout(timer);
  if (isAsking || document.hidden) return;
  isAsking = true;
  try {
    await ask();
    isAway = false;
  } catch {
    isAway = true; // Or the answer was cut off.
    later();
  } finally {
    isAsking = false;
    showConnection();
  }
}

function later() {
  window.clearTimeout(timer);
  timer = window.setTimeout(poll, period);
}

// --- What is shown

function showConnection() {
  const t = text();
  const age = Date.now() - seenAt;
  const isLive = status !== null && !isAway && problem === '' && byId('ask').hidden;
  const isWaiting = !byId('ask').hidden || !byId('refused').hidden;
  const line = byId('connection');
  line.className = isLive ? 'connection live' : isWaiting || seenAt === 0 ? 'connection' : 'connection lost';
  let said = '';
  if (isLive) said = `${t.live} · ${clock(seenAt / 1000, true)}`;
  else if (seenAt !== 0) said = t.lost(clock(seenAt / 1000, true), duration(age / 1000));
  else if (!isWaiting) said = timer ? t.never : t.connecting;
  line.textContent = said;
  byId('content').classList.toggle('stale', status !== null && !isLive);
}

function makeCharts() {
  return {
    traffic: new Chart(byId('chart-traffic'), [{ name: 'received', column: 'receivedBytes' }, { name: 'sent', column: 'sentBytes' }], bits, 8),
    clients: new Chart(byId('chart-clients'), [{ name: 'clients', column: 'clients' }], (value) => [Math.round(value).toLocaleString(language()), '']),
    packets: new Chart(byId('chart-packets'), [{ name: 'received', column: 'receivedPackets' }, { name: 'sent', column: 'sentPackets' }], packetRate),
    drops: new Chart(byId('chart-drops'), [{ name: 'dropped', column: 'dropped' }], packetRate),
  };
}

function showCharts(t) {
  charts ??= makeCharts();
  const { perSecond, totals } = status;
  charts.traffic.label(t.traffic, [t.received, t.sent], [perSecond.receivedBytes, perSecond.sentBytes], t.chartOf);
  charts.clients.label(t.clients, [t.now], [totals.clients], t.chartOf);
  charts.packets.label(t.packets, [t.received, t.sent], [perSecond.receivedPackets, perSecond.sentPackets], t.chartOf);
  charts.drops.label(t.dropped, [t.now], [perSecond.dropped], t.chartOf);
  for (const chart of Object.values(charts)) chart.show(rows);
}

function show() {
  const t = text();
  byId('content').hidden = false;
  const [kind, name] = cards.stateOf(status, t);
  byId('state').className = `badge ${kind}`;
  byId('state').textContent = name;
  byId('hostname').textContent = status.hostname;
  document.title = status.hostname ? `${status.hostname} · Detour` : 'Detour';
  const troubles = cards.troubles(status, t);
  byId('troubles').hidden = troubles.length === 0;
  fill(byId('troubles'), troubles);
  fill(byId('tiles'), cards.tiles(status, t, language()));
  showCharts(t);
  for (const card of ['clients', 'pairs', 'drops', 'certificates', 'admission', 'doctor', 'relay'])
    fill(byId(card), cards[card](status, t, language()));
  byId('mesh').hidden = status.mesh.length === 0;
  fill(byId('mesh'), cards.mesh(status, t));
}

function askForToken() {
  byId('ask').hidden = false;
  byId('refused').hidden = true;
  byId('content').hidden = true;
  byId('token-wrong').textContent = tokenWasWrong ? text().tokenWrong : '';
  byId('token').focus();
}

// --- Choices

function applyLanguage() {
  const t = text();
  document.documentElement.lang = language() === 'zh' ? 'zh-CN' : 'en';
  for (const element of document.querySelectorAll('[data-text]')) element.textContent = t[element.dataset.text];
  for (const element of document.querySelectorAll('[data-label]')) element.setAttribute('aria-label', t[element.dataset.label]);
  byId('language').value = language();
  if (tokenWasWrong) byId('token-wrong').textContent = t.tokenWrong;
  if (status) show();
  showConnection();
}

const dark = window.matchMedia('(prefers-color-scheme: dark)');

function applyTheme() {
  const chosen = preferences.theme.get();
  const isDark = chosen === 'dark' || (chosen !== 'light' && dark.matches);
  document.documentElement.dataset.theme = isDark ? 'dark' : 'light';
  byId('theme').value = ['light', 'dark'].includes(chosen) ? chosen : 'auto';
  for (const chart of Object.values(charts ?? {})) chart.redraw();
}

byId('language').addEventListener('change', (event) => { preferences.language.set(event.target.value); applyLanguage(); });
byId('theme').addEventListener('change', (event) => { preferences.theme.set(event.target.value); applyTheme(); });
dark.addEventListener('change', applyTheme);
byId('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  preferences.token.set(byId('token').value.trim());
  byId('token').value = '';
  poll();
});
document.addEventListener('visibilitychange', () => { if (byId('ask').hidden) poll(); });

applyTheme();
applyLanguage();
poll();
