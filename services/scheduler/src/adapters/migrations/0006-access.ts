import type { Knex } from 'knex';

// What is over has no secrets, and so none is left when it is destroyed out of `error`.
// Sandboxes that are there already have secrets of their hosts' making, which nobody here knows.
export async function up(db: Knex): Promise<void> {
  await db.raw(`
    alter table sandboxes
      add column secure boolean not null default false,
      add column public_ports integer[] not null default '{}',
      add column traffic_token text not null default '' check (traffic_token ~ '^([0-9a-z]{25}|)$'),
      add column access_token text not null default '';
    update sandboxes set traffic_token =
        substr(encode(sha256((gen_random_uuid()::text || gen_random_uuid()::text)::bytea), 'hex'), 1, 25)
      where state not in ('destroyed', 'error');
    alter table sandboxes
      alter column secure drop default,
      alter column public_ports drop default,
      alter column traffic_token drop default,
      alter column access_token drop default,
      add constraint secrets_while_live check
        ((state not in ('destroyed', 'error') or (traffic_token = '' and access_token = ''))
          and (traffic_token <> '' or state in ('destroyed', 'error', 'destroying')));
  `);
}

export async function down(db: Knex): Promise<void> {
  await db.raw(`
    alter table sandboxes drop constraint secrets_while_live,
      drop column secure, drop column public_ports, drop column traffic_token, drop column access_token;
  `);
}
