import type { Knex } from 'knex';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
    alter table hosts
      add column bulk_address text not null default '',
      add column disk_bytes bigint not null default 0 check (disk_bytes >= 0);
    alter table sandboxes
      add column project text not null default 'default' check (project ~ '^[a-z][a-z0-9-]{0,62}$');
    create index sandboxes_live_of_project on sandboxes (project)
      where state in ('pending', 'starting', 'running', 'destroying');
    create table quotas (
      project text primary key check (project ~ '^[a-z][a-z0-9-]{0,62}$'),
      sandbox_count integer not null check (sandbox_count >= 0),
      vcpu_count integer not null check (vcpu_count >= 0),
      memory_bytes bigint not null check (memory_bytes >= 0),
      disk_bytes bigint not null check (disk_bytes >= 0)
    );
    create table create_requests (
      project text not null check (project ~ '^[a-z][a-z0-9-]{0,62}$'),
      request_id text not null check (request_id ~ '^[A-Za-z0-9_-]{1,64}$'),
      digest text not null,
      sandbox_id text not null references sandboxes (id) on delete cascade,
      created_at timestamptz not null,
      primary key (project, request_id)
    );
    create index create_requests_of_sandbox on create_requests (sandbox_id);
    create index create_requests_created_at on create_requests (created_at);
  `);
}

export async function down(db: Knex): Promise<void> {
  await db.raw(`
    drop table create_requests, quotas;
    alter table sandboxes drop column project;
    alter table hosts drop column bulk_address, drop column disk_bytes;
  `);
}
