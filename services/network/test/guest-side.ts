// Runs inside a test's namespace, in place of a guest or of a server somewhere on the internet.
//   serve PORT               answers every TCP connection with the caller's address; prints UDP datagrams
//   dial MS HOST:PORT...     dials all at once; prints {"HOST:PORT": what came of it}
//   send TEXT HOST:PORT FROM one UDP datagram from an address of this namespace
import { createSocket } from 'node:dgram';
import { createServer, connect } from 'node:net';

const [command, ...args] = process.argv.slice(2);

function split(target: string): [string, number] {
  const [host = '', port] = target.split(':');
  return [host, Number(port)];
}

function serve(port: number): void {
  const udp = createSocket('udp4').on('message', (text, from) => console.log(`datagram ${text} ${from.address}`));
  udp.bind(port, () => {
    createServer((socket) => {
      socket.on('error', () => undefined);
      socket.end(`${socket.remoteAddress}`);
    }).listen(port, '0.0.0.0', () => console.log('serving'));
  });
}

function dial(target: string, limitMs: number): Promise<string> {
  const [host, port] = split(target);
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
  serve(Number(args[0]));
} else if (command === 'dial') {
  const [limitMs, ...targets] = args;
  const outcomes = targets.map(async (target) => [target, await dial(target, Number(limitMs))] as const);
  console.log(JSON.stringify(Object.fromEntries(await Promise.all(outcomes))));
} else if (command === 'send') {
  const [text = '', target = '', from] = args;
  const [host, port] = split(target);
  const udp = createSocket('udp4');
  udp.bind(0, from, () => udp.send(text, port, host, () => udp.close()));
} else {
  throw new Error(`unknown command ${command}`);
}
