// A guest's files by the agent's filesystem.Filesystem, on one lane of the connection.
import type { OutboundCall } from '@wrenn/kit/deadlines';
import { WrennError, hasReason } from '@wrenn/kit/errors';
import type { LaneName, RpcClient } from '@wrenn/kit/lanes';
import { EventType, Filesystem, type WatchDirResponse } from '@wrenn/proto/filesystem/filesystem';

import type { FileChange, FileEntry, FilePlace, GuestFiles } from '../domain/guest-files.ts';
import type { AgentConnection } from './agent-connection.ts';
import { fileEntryOf, within } from './guest-entry.ts';

const maxPathBytes = 16 * 1024;

const changeTypes: Partial<Record<EventType, FileChange['type']>> = {
  [EventType.CREATE]: 'created',
  [EventType.WRITE]: 'written',
  [EventType.REMOVE]: 'removed',
  [EventType.RENAME]: 'renamed',
  [EventType.CHMOD]: 'mode-changed',
};

export class GrpcGuestFiles implements GuestFiles {
  readonly #connection: AgentConnection;
  readonly #filesystem: RpcClient<typeof Filesystem.method>;

  constructor(connection: AgentConnection, lane: LaneName) {
    this.#connection = connection;
    this.#filesystem = connection.client(lane, Filesystem);
  }

  stat({ path, user }: FilePlace, call: OutboundCall): Promise<FileEntry> {
    return this.#entry(this.#filesystem.stat({ path }, this.#connection.as(user, call)));
  }

  makeDir({ path, user }: FilePlace, call: OutboundCall): Promise<FileEntry> {
    return this.#entry(this.#filesystem.makeDir({ path }, this.#connection.as(user, call)));
  }

  move({ path, user }: FilePlace, destination: string, call: OutboundCall): Promise<FileEntry> {
    return this.#entry(this.#filesystem.move({ source: path, destination }, this.#connection.as(user, call)));
  }

  async remove({ path, user }: FilePlace, call: OutboundCall): Promise<void> {
    await this.#connection.asked(() => this.#filesystem.remove({ path }, this.#connection.as(user, call)));
  }

  list({ path, user }: FilePlace, depth: number, call: OutboundCall): Promise<FileEntry[]> {
    return this.#connection.asked(async () => {
      try {
        const { entries } = await this.#filesystem.listDir({ path, depth }, this.#connection.as(user, call));
        return entries.map(fileEntryOf);
      } catch (error) {
        if (!hasReason(error, 'MESSAGE_TOO_LARGE')) throw error;
        throw new WrennError('TOO_MANY_ENTRIES', 'the directory holds more than one answer can', { cause: error });
      }
    });
  }

  watch(place: FilePlace, isRecursive: boolean, signal: AbortSignal): AsyncIterable<'started' | FileChange> {
    const request = { path: place.path, recursive: isRecursive };
    return this.#connection.streamed(
      this.#filesystem.watchDir(request, this.#connection.as(place.user, { signal })),
      watched,
    );
  }

  #entry(answer: Promise<{ entry?: Parameters<typeof fileEntryOf>[0] }>): Promise<FileEntry> {
    return this.#connection.asked(async () => fileEntryOf((await answer).entry));
  }
}

function watched({ event }: WatchDirResponse): 'started' | FileChange | undefined {
  if (event.case === 'start') return 'started';
  if (event.case !== 'filesystem') return undefined;
  const type = changeTypes[event.value.type];
  return type && { path: within(event.value.name, maxPathBytes), type };
}
