import { type FileHandle, open } from 'node:fs/promises';

// Files that are opened to be passed to a child process, and closed here once it has them.
export class OpenFiles implements AsyncDisposable {
  readonly #files: FileHandle[] = [];

  async open(path: string, flags = 'r', mode?: number): Promise<FileHandle> {
    const file = await open(path, flags, mode);
    this.#files.push(file);
    return file;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#files.map((file) => file.close()));
  }
}
