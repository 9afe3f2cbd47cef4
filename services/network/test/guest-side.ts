// Runs inside a test's namespace, in place of a guest or of a server somewhere on the internet.
//   serve                    answers every TCP connection with the caller's address; prints UDP datagrams
//   dial MS HOST...          dials all at once; prints {"HOST": what came of it}
//   send TEXT HOST FROM      one UDP datagram from an address of this namespace
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
} else {
  throw new Error(`unknown command ${command}`);
}
