// A client of plain-hop.ts.
import { rpcDefinition } from '@wrenn/kit/rpc-adapter';
import { ProcessService, type ProcessServiceExecResponse } from '@wrenn/proto/wrenn/v1/process';
import { type Channel, type Client, createChannel, createClient } from 'nice-grpc';

export const plainDefinition = rpcDefinition(ProcessService);

export class PlainClient {
  readonly #channel: Channel;
  readonly #client: Client<typeof plainDefinition>;

  constructor(port: number) {
    this.#channel = createChannel(`127.0.0.1:${port}`);
    this.#client = createClient(plainDefinition, this.#channel);
  }

  runTrue(sandboxId: string): Promise<ProcessServiceExecResponse> {
    return this.#client.exec({ sandboxId, process: { command: 'true' } });
  }

  close(): void {
    this.#channel.close();
  }
}
