import type { DescMethod, DescService, Message } from '@bufbuild/protobuf';
import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import type { OutboundCall } from '@wrenn/kit/deadlines';
import { type LaneName, Lanes } from '@wrenn/kit/lanes';

import type { Peer } from '../domain/peers.ts';

type Outgoing = Message | AsyncIterable<Message>;
type AnyClient = Record<
  string,
  (request: Outgoing, options: OutboundCall) => Promise<Uint8Array> | AsyncIterable<Uint8Array>
>;

// One lane to one service process, for calls of any method.
export class LanePeer implements Peer {
  readonly #lanes: Lanes;
  readonly #lane: LaneName;
  readonly #clients = new Map<DescService, AnyClient>();

  constructor(address: string, name: string, lane: LaneName) {
    this.#lanes = new Lanes(address, name);
    this.#lane = lane;
  }

  async *call(
    method: DescMethod,
    request: Outgoing,
    options: OutboundCall,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const answer = this.#client(method.parent)[method.localName]?.(request, options);
    if (answer instanceof Promise) yield await answer;
    else if (answer) yield* answer;
  }

  client<S extends GenServiceMethods>(service: GenService<S>) {
    return this.#lanes.client(this.#lane, service);
  }

  close(): void {
    this.#lanes.close();
  }

  #client(service: DescService): AnyClient {
    let client = this.#clients.get(service);
    if (!client) {
      const passing = this.#lanes.passingClient(this.#lane, service as GenService<GenServiceMethods>);
      client = passing as unknown as AnyClient;
      this.#clients.set(service, client);
    }
    return client;
  }
}
