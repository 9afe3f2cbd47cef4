import { WrennError } from '@wrenn/kit/errors';

import type { TemplateStore } from '../domain/ports.ts';
import type { Template } from '../domain/sandbox.ts';
import { lockName } from './postgres-snapshot-names.ts';
import type { Database } from './postgres.ts';

interface TemplateRow {
  readonly name: string;
  readonly image: string;
  readonly description: string;
  readonly vcpu_count: number;
  readonly memory_bytes: string;
  readonly disk_bytes: string;
  readonly default_user: string;
}

export class PostgresTemplates implements TemplateStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async put(template: Template): Promise<void> {
    const row = {
      name: template.name,
      image: template.image,
      description: template.description,
      vcpu_count: template.vcpuCount,
      memory_bytes: template.memoryBytes,
      disk_bytes: template.diskBytes,
      default_user: template.defaultUser,
    };
    await this.#database.inTransaction(async (tx) => {
      await lockName(tx, template.name);
      if (await tx('snapshot_names').where({ name: template.name }).first()) {
        const message = `there is a snapshot ${template.name} already`;
        throw new WrennError('SNAPSHOT_EXISTS', message, { meta: { snapshot: template.name } });
      }
      await tx('templates').insert(row).onConflict('name').merge();
    });
  }

  async list(): Promise<Template[]> {
    return (await this.#database.run(async (db) => db<TemplateRow>('templates').orderBy('name'))).map(templateOf);
  }

  async find(name: string): Promise<Template | undefined> {
    const row = await this.#database.run(async (db) => db<TemplateRow>('templates').where({ name }).first());
    return row && templateOf(row);
  }
}

function templateOf(row: TemplateRow): Template {
  return {
    name: row.name,
    image: row.image,
    description: row.description,
    vcpuCount: row.vcpu_count,
    memoryBytes: Number(row.memory_bytes),
    diskBytes: Number(row.disk_bytes),
    defaultUser: row.default_user,
  };
}
