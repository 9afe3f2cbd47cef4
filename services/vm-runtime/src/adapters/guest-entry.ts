// Entries as the agent tells them, brought within bounds: it may lie about anything.
import { WrennError } from '@wrenn/kit/errors';
import { type EntryInfo, FileType } from '@wrenn/proto/filesystem/filesystem';

import type { FileEntry } from '../domain/guest-files.ts';

const maxPathBytes = 16 * 1024; // Three bytes for each of 4,095 that are no UTF-8, and some.
const maxNameBytes = 1024;
// What a protobuf Timestamp can hold: the years 1 to 9999.
const firstSecond = -62_135_596_800n;
const lastSecond = 253_402_300_799n;

const types: Partial<Record<FileType, FileEntry['type']>> = {
  [FileType.FILE]: 'file',
  [FileType.DIRECTORY]: 'directory',
  [FileType.SYMLINK]: 'symlink',
};

export function fileEntryOf(info: EntryInfo | undefined): FileEntry {
  if (!info) throw new WrennError('AGENT_MISBEHAVED', 'the agent answered without an entry');
  const { seconds = 0n, nanos = 0 } = info.modifiedTime ?? {};
  return {
    name: within(info.name, maxPathBytes),
    path: within(info.path, maxPathBytes),
    type: types[info.type] ?? 'other',
    sizeBytes: info.size < 0n ? 0n : info.size,
    mode: info.mode & 0o7777,
    owner: within(info.owner, maxNameBytes),
    group: within(info.group, maxNameBytes),
    // A guest may give a file any time; one that cannot be told is told as the nearest that can.
    modifiedAt: {
      seconds: seconds < firstSecond ? firstSecond : seconds > lastSecond ? lastSecond : seconds,
      nanos: Math.min(Math.max(nanos, 0), 999_999_999),
    },
    symlinkTarget: within(info.symlinkTarget ?? '', maxPathBytes),
  };
}

export function within(text: string, maxBytes: number): string {
  if (Buffer.byteLength(text) > maxBytes) {
    throw new WrennError('AGENT_MISBEHAVED', `the agent sent a text of more than ${maxBytes} bytes`);
  }
  return text;
}
