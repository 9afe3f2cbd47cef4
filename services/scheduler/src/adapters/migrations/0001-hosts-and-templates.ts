import type { Knex } from 'knex';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
    create table hosts (
      id text primary key check (id ~ '^[a-z0-9-]{1,63}$'),
      address text not null check (address <> ''),
      cpu_count integer not null check (cpu_count > 0),
      memory_bytes bigint not null check (memory_bytes > 0),
      slot_count integer not null check (slot_count >= 0),
      vmm text not null,
      accelerator text not null,
      reported_at timestamptz not null
    );
    create table templates (
      name text primary key check (name ~ '^[a-z][a-z0-9-]{0,62}$'),
      image text not null check (image ~ '^[a-z][a-z0-9-]{0,62}$'),
      description text not null,
      vcpu_count integer not null check (vcpu_count between 1 and 32),
      memory_bytes bigint not null check (memory_bytes > 0 and memory_bytes % 2097152 = 0),
      disk_bytes bigint not null check (disk_bytes > 0 and disk_bytes % 1048576 = 0),
      default_user text not null
    );
  `);
}

export async function down(db: Knex): Promise<void> {
  await db.raw('drop table templates, hosts');
}
