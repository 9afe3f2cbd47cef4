// The manifests of snapshots, field by field in docs/formats.md. One carries the checksum of its own text: a
// flipped bit in a name or size must not be believed.
import { createHash } from 'node:crypto';

import { WrennError } from '@wrenn/kit/errors';
import { isSandboxId, isSnapshotId, type SandboxId, type SnapshotId } from '@wrenn/kit/ids';
import { z } from 'zod';

import { nextGeneration } from './generations.ts';
import type { Parsed } from './manifest.ts';

const byteCount = z.int().nonnegative();
const snapshotId = z.custom<SnapshotId>((value) => typeof value === 'string' && isSnapshotId(value), 'is no id');
const sandboxId = z.custom<SandboxId>((value) => typeof value === 'string' && isSandboxId(value), 'is no id');

export const machine = z.object({
  vmm: z.string(),
  accelerator: z.string(),
  cpuModel: z.string(),
  kernel: z.string(),
  vcpuCount: byteCount,
  memoryBytes: byteCount,
});

const build = z.object({
  id: snapshotId,
  generation: byteCount,
  memoryBytes: byteCount,
  diskLayer: z.string().nullable(),
});

const fileFacts = z.object({
  bytes: byteCount,
  sha256: z.string().optional(),
  crc32: z.int().nonnegative().optional(),
});

const common = {
  id: snapshotId,
  sandboxId,
  template: z.string(),
  parentId: snapshotId.nullable(),
  generation: byteCount,
  machine,
  image: z.string(),
  imageDigest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  diskBytes: byteCount,
  createdAt: z.iso.datetime(),
};

const snapshotManifest = z.object({
  format: z.literal('wrenn.snapshot/1'),
  ...common,
  builds: z.array(build).min(1),
  memoryRuns: byteCount.default(1), // Of the header.
  files: z.record(z.string(), fileFacts),
});

const stagedRecord = z.object({
  format: z.literal('wrenn.staged-snapshot/1'),
  ...common,
  frozenDirectory: z.string(), // Where its RAM file came from.
});

export type Machine = z.infer<typeof machine>;
export type FileFacts = z.infer<typeof fileFacts>;
export type ManifestBuild = z.infer<typeof build>;
export type SnapshotManifest = z.infer<typeof snapshotManifest>;
export type StagedRecord = z.infer<typeof stagedRecord>;

export function snapshotManifestText(manifest: SnapshotManifest): string {
  return sealed(manifest);
}

export function stagedRecordText(record: StagedRecord): string {
  return sealed(record);
}

export function parseSnapshotManifest(text: string, id: string): Parsed<SnapshotManifest> {
  const parsed = parse(snapshotManifest, text);
  if ('problem' in parsed) return parsed;
  const { manifest } = parsed;
  if (manifest.id !== id) return { problem: `the manifest is of another snapshot: ${manifest.id}` };
  if (manifest.builds[0]?.id !== id) return { problem: 'the manifest does not begin with its own build' };
  return parsed;
}

export function parseStagedRecord(text: string, id: string): Parsed<StagedRecord> {
  const parsed = parse(stagedRecord, text);
  if ('problem' in parsed || parsed.manifest.id === id) return parsed;
  return { problem: `the record is of another snapshot: ${parsed.manifest.id}` };
}

// The builds of a snapshot that stands on a parent, newest first: a Full stands on none.
export function buildsOver(own: ManifestBuild, parent: SnapshotManifest | undefined): ManifestBuild[] {
  if (!parent || nextGeneration(parent) === 0) return [own];
  return [own, ...parent.builds];
}

function sealed(content: object): string {
  return textOf({ ...content, checksum: checksumOf(content) });
}

function textOf(content: object): string {
  return `${JSON.stringify(content, undefined, 2)}\n`;
}

function checksumOf(content: object): string {
  return `sha256:${createHash('sha256').update(textOf(content)).digest('hex')}`;
}

function parse<T>(schema: z.ZodType<T>, text: string): Parsed<T> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { problem: `the manifest is no JSON: ${(error as Error).message}` };
  }
  if (typeof value !== 'object' || value === null) return { problem: 'the manifest is malformed' };
  const { checksum, ...content } = value as Record<string, unknown>;
  // The text as a whole, since a value can be spelt in more than one way.
  if (checksum !== checksumOf(content) || text !== textOf(value))
    return { problem: 'the manifest is not what was written: its checksum is wrong' };
  const parsed = schema.safeParse(content);
  if (parsed.success) return { manifest: parsed.data };
  const issues = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  return { problem: `the manifest is malformed: ${issues.join('; ')}` };
}

// Throws unless there is a manifest that reads well.
export function readable(id: string, parsed: Parsed<SnapshotManifest> | undefined): SnapshotManifest {
  if (!parsed) throw noSnapshot(id);
  if ('manifest' in parsed) return parsed.manifest;
  throw new WrennError('SNAPSHOT_CORRUPT', `snapshot ${id} is corrupt: ${parsed.problem}`, {
    meta: { snapshot: id, file: 'manifest.json' },
  });
}

export const noSnapshot = (id: string) =>
  new WrennError('SNAPSHOT_NOT_FOUND', `no snapshot ${id}`, { meta: { snapshot: id } });
