import type { Knex } from 'knex';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
    create table sandboxes (
      id text primary key check (id ~ '^cl-[0-9a-z]{25}$'),
      template text not null references templates (name),
      state text not null
        check (state in ('pending', 'starting', 'running', 'destroying', 'destroyed', 'error')),
      error_reason text not null default '',
      error_message text not null default '',
      host_id text references hosts (id),
      guest_address text not null default '',
      vcpu_count integer not null check (vcpu_count between 1 and 32),
      memory_bytes bigint not null check (memory_bytes > 0 and memory_bytes % 2097152 = 0),
      disk_bytes bigint not null check (disk_bytes > 0 and disk_bytes % 1048576 = 0),
      ttl_ms integer not null check (ttl_ms between 1000 and 86400000),
      metadata jsonb not null check (jsonb_typeof(metadata) = 'object'),
      version bigint not null check (version > 0),
      created_at timestamptz not null,
      state_changed_at timestamptz not null,
      expires_at timestamptz not null,
      constraint error_has_reason check ((state = 'error') = (error_reason <> '')),
      constraint placed_has_host check (host_id is not null or state not in ('starting', 'running')),
      constraint running_has_address check (guest_address <> '' or state <> 'running')
    );
    create index sandboxes_newest on sandboxes (created_at desc, id desc);
    create index sandboxes_live on sandboxes (host_id)
      where state in ('pending', 'starting', 'running', 'destroying');
    create index sandboxes_expiring on sandboxes (expires_at) where state = 'running';
    create index sandboxes_ended on sandboxes (state_changed_at) where state in ('destroyed', 'error');
  `);
}

export async function down(db: Knex): Promise<void> {
  await db.raw('drop table sandboxes');
}
