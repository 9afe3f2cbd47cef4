// The files of one guest as vm-runtime uses them. What it is told comes from inside the guest: untrusted.
import type { OutboundCall } from '@wrenn/kit/deadlines';

export interface FileEntry {
  readonly name: string;
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'other';
  readonly sizeBytes: bigint;
  readonly mode: number;
  readonly owner: string;
  readonly group: string;
  readonly modifiedAt: { readonly seconds: bigint; readonly nanos: number };
  readonly symlinkTarget: string;
}

// A path as a user of the guest means it. Only the guest resolves it.
export interface FilePlace {
  readonly path: string;
  readonly user: string; // Empty: the template's default.
}

export interface FileChange {
  readonly path: string; // Relative to the watched directory.
  readonly type: 'created' | 'written' | 'removed' | 'renamed' | 'mode-changed';
}

// Errors: AGENT_UNREACHABLE, AGENT_MISBEHAVED, VMM_DIED and those that wrenn.v1.FilesystemService documents.
export interface GuestFiles {
  stat(place: FilePlace, call: OutboundCall): Promise<FileEntry>;
  list(place: FilePlace, depth: number, call: OutboundCall): Promise<FileEntry[]>;
  makeDir(place: FilePlace, call: OutboundCall): Promise<FileEntry>;
  move(source: FilePlace, destination: string, call: OutboundCall): Promise<FileEntry>;
  remove(place: FilePlace, call: OutboundCall): Promise<void>;
  // `started` once the watch stands, then every change until the signal aborts.
  watch(place: FilePlace, isRecursive: boolean, signal: AbortSignal): AsyncIterable<'started' | FileChange>;
}

export interface ByteRange {
  readonly offset: bigint;
  readonly length: bigint; // 0: to the end.
}

export type ReadPart = { readonly opened: FileEntry } | { readonly data: Uint8Array };

// Errors as above. A transfer that was cut is an error, never an end.
export interface GuestBytes {
  // `opened` first. Pulls from the guest only as fast as it is pulled from.
  read(place: FilePlace, range: ByteRange, signal: AbortSignal): AsyncIterable<ReadPart>;
  // The file is replaced once `data` has come to its end; if that or the signal fails, it is as it was.
  // `mode` 0: that of the file it replaces, else 0644.
  write(place: FilePlace, mode: number, data: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<FileEntry>;
}

// What serves the files of one sandbox.
export interface ServedFiles {
  readonly files: GuestFiles;
  readonly bytes: GuestBytes;
}
