// How a copy-on-write disk is kept over a base image.
export interface NewDisk {
  readonly path: string;
  readonly basePath: string;
  readonly virtualBytes: number;
}

export interface DiskFacts {
  readonly basePath: string;
  readonly virtualBytes: number;
}

export interface DiskBackend {
  // Makes an empty disk; leaves nothing at `path` when it fails.
  create(disk: NewDisk): Promise<void>;
  // What the disk file says of itself. A VMM wrote to it, so nothing it names is opened.
  inspect(path: string): Promise<DiskFacts>;
  // Succeeds also when there is nothing.
  delete(path: string): Promise<void>;
}
