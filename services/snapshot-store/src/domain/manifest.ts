// The manifests of the store, field by field in docs/formats.md. A directory is what its manifest says
// and stands where its manifest says, or it is corrupt.
import { z } from 'zod';

import { sourceFingerprint } from './source.ts';

const byteCount = z.int().nonnegative();
const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);

const imageManifest = z.object({
  format: z.literal('wrenn.image/1'),
  name: z.string(),
  digest,
  virtualBytes: byteCount,
  importedAt: z.iso.datetime(),
  source: sourceFingerprint.nullable(),
});

const diskManifest = z.object({
  format: z.literal('wrenn.disk/1'),
  id: z.string(),
  image: z.string(),
  imageDigest: digest,
  diskFormat: z.literal('qcow2'),
  virtualBytes: byteCount,
  // The snapshot that it stands on and the frozen layers below the live one, newest first.
  parentId: z.string().nullable().default(null),
  layers: z.array(z.string()).default([]),
  createdAt: z.iso.datetime(),
});

export type ImageManifest = z.infer<typeof imageManifest>;
export type DiskManifest = z.infer<typeof diskManifest>;
export type Parsed<T> = { readonly manifest: T } | { readonly problem: string };

export function parseImageManifest(text: string, name: string, expectedDigest: string): Parsed<ImageManifest> {
  const parsed = parse(imageManifest, text);
  if ('problem' in parsed) return parsed;
  const { manifest } = parsed;
  if (manifest.name === name && manifest.digest === expectedDigest) return parsed;
  return { problem: `the manifest is of another image: ${manifest.name} ${manifest.digest}` };
}

export function parseDiskManifest(text: string, id: string): Parsed<DiskManifest> {
  const parsed = parse(diskManifest, text);
  if ('problem' in parsed || parsed.manifest.id === id) return parsed;
  return { problem: `the manifest is of another disk: ${parsed.manifest.id}` };
}

export function manifestText(manifest: ImageManifest | DiskManifest): string {
  return `${JSON.stringify(manifest, undefined, 2)}\n`;
}

function parse<T>(schema: z.ZodType<T>, text: string): Parsed<T> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { problem: `the manifest is no JSON: ${(error as Error).message}` };
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return { manifest: parsed.data };
  const issues = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  return { problem: `the manifest is malformed: ${issues.join('; ')}` };
}
