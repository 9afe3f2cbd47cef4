// The program behind edge traffic: URL RATE. Over 32 WebSockets and as many connections for bodies of 64 KiB as one
// page opens, it makes RATE exchanges a second in all, 0 for as many as it can. It checks every byte, and tells on
// stdout how many exchanges were made.
import { once } from 'node:events';
import { Agent, type IncomingMessage, get } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

import { bodyBytes } from './guest-web.ts';

const webSocketCount = 32;
const bodyCount = 6;
const [url = '', rateText = '0'] = process.argv.slice(2);
const everyMs = Number(rateText) > 0 ? 1000 / Number(rateText) : 0;
const agent = new Agent({ keepAlive: true, maxSockets: bodyCount });
let madeCount = 0;
let nextAtMs = performance.now();

// One moment after the other for all of them together, so that the rate is theirs in all.
async function turn(): Promise<void> {
  if (everyMs === 0) return;
  nextAtMs = Math.max(nextAtMs + everyMs, performance.now() - 1000);
  const waitMs = nextAtMs - performance.now();
  if (waitMs > 0) await sleep(waitMs);
}

async function echoes(number: number): Promise<never> {
  const socket = new WebSocket(url.replace(/^http/, 'ws'));
  await once(socket, 'open');
  for (let n = 0; ; n++) {
    await turn();
    const text = `message ${n} of ${number}`;
    socket.send(text);
    const [{ data }] = (await once(socket, 'message')) as [MessageEvent];
    if (data !== text) throw new Error(`a WebSocket answered ${String(data)} to ${text}`);
    madeCount++;
  }
}

async function bodies(): Promise<never> {
  for (;;) {
    await turn();
    const [response] = (await once(get(url, { agent }), 'response')) as [IncomingMessage];
    let count = 0;
    for await (const piece of response as AsyncIterable<Buffer>) count += piece.length;
    if (count !== bodyBytes) throw new Error(`${count} of ${bodyBytes} bytes came`);
    madeCount++;
  }
}

setInterval(() => process.stdout.write(`${madeCount}\n`), 200);
await Promise.all([
  ...Array.from({ length: webSocketCount }, (_, n) => echoes(n)),
  ...Array.from({ length: bodyCount }, bodies),
]);
