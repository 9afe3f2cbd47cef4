// Runs inside a test's namespace, in place of a guest or of a server somewhere on the internet.
//   serve                    answers every TCP connection with the caller's address; prints UDP datagrams
//   dial MS HOST...          dials all at once; prints {"HOST": what came of it}
//   send TEXT HOST FROM      one UDP datagram from an address of this namespace
//   upload BYTES HOST        over TCP; prints the milliseconds until the server has them all
//   receive                  takes uploads, answers each with its length once it has ended
import { createSocket } from 'node:dgram';
import { createServer, connect } from 'node:net';

const [command, ...args] = process.argv.slice(2);

const port = 7777;
const say = (line: string) => process.stdout.write(`${line}\n`);

function serve(): void {
  const udp = createSocket('udp4').on('message', (text, from) => say(`datagram ${text.toString()} ${from.address}`));
  udp.bind(port, () => {
    createServer((socket) => {
      socket.on('error', () => undefined);
      socket.end(`${socket.remoteAddress}`);
    }).listen(port, '0.0.0.0', () => say('serving'));
  });
}

function dial(host: string, limitMs: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: limitMs });
    let text = '';
    socket.setEncoding('utf8').on('data', (data: string) => (text += data));
    socket.on('timeout', () => socket.destroy() && resolve('dropped'));
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.on('end', () => resolve(`answered ${text}`));
  });
}

// Takes uploads, and answers each with its length once it has ended.
function receive(): void {
  createServer({ allowHalfOpen: true }, (socket) => {
    let received = 0;
    socket.on('error', () => undefined);
    socket.on('data', (data) => (received += data.length));
    socket.on('end', () => socket.end(`${received}`));
  }).listen(port, '0.0.0.0', () => say('receiving'));
}

// Resolves to the milliseconds until the server had it all.
function upload(bytes: number, host: string): Promise<number> {
  const began = performance.now();
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect({ host, port }, () => socket.end(Buffer.alloc(bytes)));
    socket.setEncoding('utf8').on('data', (data: string) => (answer += data));
    socket.on('error', reject);
    socket.on('end', () => {
      if (Number(answer) === bytes) resolve(performance.now() - began);
      else reject(new Error(`the server has ${answer} of ${bytes} bytes`));
    });
  });
}

if (command === 'serve') {
  serve();
} else if (command === 'dial') {
  const [limitMs, ...hosts] = args;
  const outcomes = hosts.map(async (host) => [host, await dial(host, Number(limitMs))] as const);
  say(JSON.stringify(Object.fromEntries(await Promise.all(outcomes))));
} else if (command === 'send') {
  const [text = '', host = '', from] = args;
  const udp = createSocket('udp4');
  udp.bind(0, from, () => udp.send(text, port, host, () => udp.close()));
} else if (command === 'receive') {
  receive();
} else if (command === 'upload') {
  const [bytes, host = ''] = args;
  say(String(await upload(Number(bytes), host)));
} else {
  throw new Error(`unknown command ${command}`);
}
