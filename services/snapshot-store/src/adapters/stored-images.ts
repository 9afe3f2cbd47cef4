// Base images as files: images/<name>/<sha256 hex>/{rootfs.ext4,manifest.json} and images/<name>/current.
// A version's content never changes under its name, since running VMs read it.
import { mkdir, readFile, readdir, rename, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import type { Clock } from '@wrenn/kit/clock';
import { syncDirectory, writeDurably } from '@wrenn/kit/durable-file';
import type { RunProgram } from '@wrenn/kit/run-program';
import { UndoStack } from '@wrenn/kit/undo-stack';

import { manifestText, parseImageManifest } from '../domain/manifest.ts';
import type { ImageVersion } from '../domain/references.ts';
import type { ImageFiles, StagedImage } from '../domain/snapshot-store.ts';
import { type Source, isSettled } from '../domain/source.ts';
import { tellingDiskFull } from './disk-full.ts';
import { orNothing, realBytesOf } from './files.ts';
import { copySource, inspectSource } from './image-source.ts';
import { type StoreDirectory, rootfsName } from './store-directory.ts';

const manifestName = 'manifest.json';
const currentName = 'current';
const namePattern = /^[a-z][a-z0-9-]{0,62}$/;
const hexPattern = /^[0-9a-f]{64}$/;

export interface StoredImagesParts {
  readonly directory: StoreDirectory;
  readonly run: RunProgram;
  readonly clock: Clock;
}

export class StoredImages implements ImageFiles {
  readonly #directory: StoreDirectory;
  readonly #run: RunProgram;
  readonly #clock: Clock;

  constructor({ directory, run, clock }: StoredImagesParts) {
    this.#directory = directory;
    this.#run = run;
    this.#clock = clock;
  }

  async sweep(): Promise<void> {
    for (const name of await this.names()) {
      const home = this.#home(name);
      const entries = (await orNothing(readdir(home))) ?? [];
      const torn = entries.filter((entry) => entry.startsWith(`${currentName}.tmp-`));
      for (const entry of torn) await rm(join(home, entry));
      if (!entries.some((entry) => hexPattern.test(entry))) await this.deleteName(name);
    }
  }

  async names(): Promise<string[]> {
    const entries = await readdir(this.#directory.images, { withFileTypes: true });
    const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
    return names.filter((name) => namePattern.test(name)).sort();
  }

  async versions(name: string): Promise<ImageVersion[]> {
    const home = this.#home(name);
    const entries = (await orNothing(readdir(home))) ?? [];
    const current = (await orNothing(readFile(join(home, currentName), 'utf8')))?.trim();
    const hexes = entries.filter((entry) => hexPattern.test(entry));
    return Promise.all(hexes.map((hex) => this.#version(name, `sha256:${hex}`, hex === current)));
  }

  inspectSource(path: string): Promise<Source> {
    return inspectSource(path);
  }

  stage(name: string, source: Source, signal: AbortSignal): Promise<StagedImage> {
    return tellingDiskFull(async () => {
      const directory = await this.#directory.stage();
      try {
        const path = join(directory, rootfsName);
        const digest = await copySource({ source, path, run: this.#run, signal });
        await writeDurably(join(directory, manifestName), this.#manifest(name, digest, source));
        return { directory, digest };
      } catch (error) {
        await this.#directory.discard(directory);
        throw error;
      }
    });
  }

  publish(name: string, staged: StagedImage): Promise<void> {
    return tellingDiskFull(async () => {
      const known = (await this.versions(name)).find((version) => version.digest === staged.digest);
      await (known ? this.#renew(known, staged) : this.#add(name, staged));
    });
  }

  discard(staged: StagedImage): Promise<void> {
    return this.#directory.discard(staged.directory);
  }

  setCurrent({ name, digest }: Pick<ImageVersion, 'name' | 'digest'>): Promise<void> {
    const path = join(this.#home(name), currentName);
    return tellingDiskFull(() => writeDurably(path, `${digest.slice('sha256:'.length)}\n`));
  }

  async deleteVersion({ path }: ImageVersion): Promise<void> {
    await this.#directory.remove(dirname(path));
  }

  deleteName(name: string): Promise<boolean> {
    return this.#directory.remove(this.#home(name));
  }

  async #version(name: string, digest: string, isCurrent: boolean): Promise<ImageVersion> {
    const path = this.#directory.imagePath(name, digest);
    const unusable = { name, digest, path, virtualBytes: 0, realBytes: 0, isCurrent, source: null };
    const text = await orNothing(readFile(join(dirname(path), manifestName), 'utf8'));
    if (text === undefined) return { ...unusable, problem: 'the manifest is missing' };
    const parsed = parseImageManifest(text, name, digest);
    if ('problem' in parsed) return { ...unusable, problem: parsed.problem };
    const file = await orNothing(stat(path));
    if (!file) return { ...unusable, problem: `${rootfsName} is missing` };
    const { virtualBytes, source } = parsed.manifest;
    const problem = file.size === virtualBytes ? '' : `${rootfsName} is not of the size recorded`;
    return { ...unusable, virtualBytes, realBytes: realBytesOf(file), source, problem };
  }

  #manifest(name: string, digest: string, { sizeBytes, fingerprint }: Source): string {
    const now = this.#clock.now();
    const source = isSettled(fingerprint, now.getTime()) ? fingerprint : null;
    const importedAt = now.toISOString();
    return manifestText({ format: 'wrenn.image/1', name, digest, virtualBytes: sizeBytes, importedAt, source });
  }

  async #add(name: string, staged: StagedImage): Promise<void> {
    const undo = new UndoStack();
    try {
      const home = this.#home(name);
      if (await mkdir(home, { recursive: true, mode: 0o755 })) undo.push(() => rmdir(home));
      await syncDirectory(this.#directory.images);
      const version = dirname(this.#directory.imagePath(name, staged.digest));
      await this.#directory.publish(staged.directory, version);
      undo.push(async () => void (await this.#directory.remove(version)));
      await this.setCurrent({ name, digest: staged.digest });
      undo.commit();
    } catch (error) {
      await undo.undo();
      throw error;
    }
  }

  // The same content again: its manifest learns the new source, and what was corrupt is whole again.
  async #renew(known: ImageVersion, staged: StagedImage): Promise<void> {
    const version = dirname(known.path);
    if (known.problem) await rename(join(staged.directory, rootfsName), known.path);
    await rename(join(staged.directory, manifestName), join(version, manifestName));
    await syncDirectory(version);
    if (!known.isCurrent) await this.setCurrent(known);
  }

  #home(name: string): string {
    return join(this.#directory.images, name);
  }
}
