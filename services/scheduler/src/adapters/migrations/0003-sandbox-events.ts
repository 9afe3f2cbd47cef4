import type { Knex } from 'knex';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
    create table sandbox_events (
      sequence bigint generated always as identity primary key,
      sandbox_id text not null references sandboxes (id) on delete cascade,
      from_state text
        check (from_state in ('pending', 'starting', 'running', 'destroying', 'destroyed', 'error')),
      to_state text not null
        check (to_state in ('pending', 'starting', 'running', 'destroying', 'destroyed', 'error')),
      reason text not null check (reason ~ '^[A-Z][A-Z0-9_]*$'),
      at timestamptz not null
    );
    create index sandbox_events_of_sandbox on sandbox_events (sandbox_id, sequence);
    create index sandbox_events_at on sandbox_events (at);
  `);
}

export async function down(db: Knex): Promise<void> {
  await db.raw('drop table sandbox_events');
}
