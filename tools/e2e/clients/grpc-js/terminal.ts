// A terminal by plain @grpc/grpc-js, with the .proto files loaded at run time: types, resizes, ends it, and prints
// what it was told. Usage: terminal.ts GATEWAY SANDBOX
import { join } from 'node:path';

import { type ServiceError, credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

interface Told {
  readonly event: {
    readonly event: 'started' | 'terminal' | 'screen' | 'exited';
    readonly terminal?: Buffer;
    readonly exited?: { readonly exitCode: number };
  };
}
interface AttachCall {
  write(message: object): boolean;
  on(event: 'data', listener: (told: Told) => void): this;
  on(event: 'end', listener: () => void): this;
  on(event: 'error', listener: (error: ServiceError) => void): this;
}
type ProcessClient = new (
  address: string,
  security: ReturnType<typeof credentials.createInsecure>,
) => { Attach(): AttachCall; close(): void };

const [gateway = '', sandboxId = ''] = process.argv.slice(2);
const definition = loadSync('wrenn/v1/process.proto', {
  includeDirs: [join(import.meta.dirname, '../../../../proto')],
  oneofs: true,
});
const api = loadPackageDefinition(definition) as unknown as { wrenn: { v1: { ProcessService: ProcessClient } } };
const processes = new api.wrenn.v1.ProcessService(gateway, credentials.createInsecure());

const call = processes.Attach();
const type = (text: string) => call.write({ input: Buffer.from(text) });
let shown = '';
let exitCode: number | undefined;
const events = new Set<string>();
// Each is typed once what comes before it is shown.
const steps: [awaited: string, act: () => void][] = [
  ['ready', () => type('héllo\n')],
  ['héllo\r\n', () => call.write({ resize: { columns: 99, rows: 31 } })],
  ['31 99', () => type('end\n')],
];
call.on('data', ({ event }) => {
  events.add(event.event);
  if (event.terminal) shown += event.terminal.toString();
  exitCode = event.exited?.exitCode ?? exitCode;
  const [awaited, act] = steps[0] ?? [];
  if (awaited === undefined || !shown.includes(awaited)) return;
  steps.shift();
  act?.();
});
call.on('error', (error) => {
  process.stderr.write(`${error.code} ${error.details}\n`);
  process.exit(1);
});
call.on('end', () => {
  const size = /31 99/.exec(shown)?.[0];
  process.stdout.write(JSON.stringify({ events: [...events], echoed: shown.includes('héllo'), size, exitCode }));
  processes.close();
});
const script = 'trap "stty size" WINCH; echo ready; while :; do read -r line; [ "$line" = end ] && exit 4; done';
call.write({
  start: {
    sandboxId,
    newTerminal: { process: { command: '/bin/sh', args: ['-c', script] } },
    size: { columns: 80, rows: 24 },
  },
});
