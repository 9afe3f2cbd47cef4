// `<id>:<path>` names a path in a sandbox, as scp writes it; anything else is a local path, `-` a standard stream.
import { UsageError } from '../exit-codes.ts';

export interface RemotePath {
  readonly sandbox: string; // An id, or enough of it.
  readonly path: string;
}

// Undefined for a local path. One with a colon in its name is written with a slash before it: `./a:b`.
export function parseRemotePath(text: string): RemotePath | undefined {
  const colon = text.indexOf(':');
  if (colon <= 0 || text.slice(0, colon).includes('/')) return undefined;
  const path = text.slice(colon + 1);
  if (path === '') throw new UsageError(`"${text}" names no path; write it like ${text}/tmp/file`);
  return { sandbox: text.slice(0, colon), path };
}

export function requireRemotePath(text: string): RemotePath {
  const remote = parseRemotePath(text);
  if (!remote) throw new UsageError(`"${text}" is no path in a sandbox; write it like cl-4f0:/tmp/file`);
  return remote;
}

export function joinRemote(directory: string, name: string): string {
  return directory.endsWith('/') ? `${directory}${name}` : `${directory}/${name}`;
}

// The path of an entry below a directory, as the guest tells both. Undefined for one that is not below it or
// would lead out of any directory it is put in: the guest may tell anything.
export function relativePath(directory: string, entry: string): string | undefined {
  const prefix = directory.endsWith('/') ? directory : `${directory}/`;
  if (!entry.startsWith(prefix)) return undefined;
  const relative = entry.slice(prefix.length);
  const parts = relative.split('/');
  const isSafe = parts.every((part) => part !== '' && part !== '.' && part !== '..' && !part.includes('\0'));
  return isSafe ? relative : undefined;
}
