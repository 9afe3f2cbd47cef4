import type { Knex } from 'knex';

// Nothing counts who needs a snapshot: the foreign keys know, and refuse to let go of one that is needed.
export async function up(db: Knex): Promise<void> {
  await db.raw(`
    create table snapshots (
      id text primary key check (id ~ '^sn-[0-9a-z]{25}$'),
      host_id text not null references hosts (id),
      sandbox_id text not null,
      project text not null,
      template text not null references templates (name),
      default_user text not null,
      vcpu_count integer not null,
      memory_bytes bigint not null,
      disk_bytes bigint not null,
      env jsonb not null check (jsonb_typeof(env) = 'object'),
      keeps_running boolean not null,
      generation integer not null default 0 check (generation >= 0),
      is_durable boolean not null default false,
      created_at timestamptz not null
    );
    create index snapshots_of_host on snapshots (host_id);
    create table snapshot_names (
      name text primary key check (name ~ '^[a-z][a-z0-9-]{0,62}$'),
      snapshot_id text not null references snapshots (id),
      sandbox_id text not null,
      project text not null,
      request_id text check (request_id ~ '^[A-Za-z0-9_-]{1,64}$'),
      created_at timestamptz not null
    );
    create index snapshot_names_of_snapshot on snapshot_names (snapshot_id);
    create index snapshot_names_of_request on snapshot_names (project, request_id) where request_id is not null;

    alter table sandboxes
      add column on_timeout text not null default 'destroy' check (on_timeout in ('destroy', 'pause')),
      add column auto_resume boolean not null default false,
      add column snapshot_id text references snapshots (id),
      add column is_durable boolean not null default false,
      add column previous_snapshot_id text references snapshots (id),
      add column next_snapshot_id text references snapshots (id),
      add column fork_id text,
      add column fork_index integer,
      drop constraint sandboxes_state_check,
      add constraint sandboxes_state_check check (state in
        ('pending', 'starting', 'running', 'pausing', 'paused', 'resuming', 'destroying', 'destroyed', 'error')),
      drop constraint placed_has_host,
      add constraint placed_has_host check
        (host_id is not null or state not in ('starting', 'running', 'pausing', 'paused', 'resuming')),
      add constraint paused_has_snapshot check (snapshot_id is not null or state not in ('paused', 'resuming')),
      add constraint pausing_has_next check (next_snapshot_id is not null or state <> 'pausing'),
      add constraint ended_holds_nothing check (
        state not in ('destroyed', 'error')
        or coalesce(snapshot_id, previous_snapshot_id, next_snapshot_id) is null);
    create index sandboxes_of_snapshot on sandboxes (snapshot_id) where snapshot_id is not null;
    create index sandboxes_of_previous on sandboxes (previous_snapshot_id) where previous_snapshot_id is not null;
    create index sandboxes_of_next on sandboxes (next_snapshot_id) where next_snapshot_id is not null;
    create index sandboxes_of_fork on sandboxes (fork_id) where fork_id is not null;
    drop index sandboxes_live, sandboxes_live_of_project;
    create index sandboxes_live on sandboxes (host_id) where state not in ('destroyed', 'error');
    create index sandboxes_live_of_project on sandboxes (project) where state not in ('destroyed', 'error');

    create table sandbox_environments (
      sandbox_id text primary key references sandboxes (id) on delete cascade,
      env jsonb not null check (jsonb_typeof(env) = 'object'),
      default_user text not null
    );

    alter table sandbox_events
      drop constraint sandbox_events_from_state_check,
      drop constraint sandbox_events_to_state_check,
      add constraint sandbox_events_from_state_check check (from_state in
        ('pending', 'starting', 'running', 'pausing', 'paused', 'resuming', 'destroying', 'destroyed', 'error')),
      add constraint sandbox_events_to_state_check check (to_state in
        ('pending', 'starting', 'running', 'pausing', 'paused', 'resuming', 'destroying', 'destroyed', 'error'));
  `);
}

export async function down(db: Knex): Promise<void> {
  await db.raw(`
    drop table sandbox_environments;
    drop index sandboxes_live, sandboxes_live_of_project;
    alter table sandboxes
      drop constraint paused_has_snapshot, drop constraint pausing_has_next, drop constraint ended_holds_nothing,
      drop column on_timeout, drop column auto_resume, drop column snapshot_id, drop column is_durable,
      drop column previous_snapshot_id, drop column next_snapshot_id, drop column fork_id, drop column fork_index,
      drop constraint placed_has_host,
      add constraint placed_has_host check (host_id is not null or state not in ('starting', 'running')),
      drop constraint sandboxes_state_check,
      add constraint sandboxes_state_check
        check (state in ('pending', 'starting', 'running', 'destroying', 'destroyed', 'error'));
    create index sandboxes_live on sandboxes (host_id)
      where state in ('pending', 'starting', 'running', 'destroying');
    create index sandboxes_live_of_project on sandboxes (project)
      where state in ('pending', 'starting', 'running', 'destroying');
    alter table sandbox_events
      drop constraint sandbox_events_from_state_check,
      drop constraint sandbox_events_to_state_check,
      add constraint sandbox_events_from_state_check
        check (from_state in ('pending', 'starting', 'running', 'destroying', 'destroyed', 'error')),
      add constraint sandbox_events_to_state_check
        check (to_state in ('pending', 'starting', 'running', 'destroying', 'destroyed', 'error'));
    drop table snapshot_names, snapshots;
  `);
}
