// The Grafana dashboards, as code: `node tools/deploy/dashboards.ts` writes deploy/grafana/dashboards/*.json.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

interface PanelSpec {
  readonly title: string;
  readonly unit: 's' | 'bytes' | 'Bps' | 'short' | 'ops' | 'percentunit';
  // Legend by query.
  readonly queries: Readonly<Record<string, string>>;
  readonly isStacked?: true;
}

interface DashboardSpec {
  readonly uid: string;
  readonly title: string;
  readonly rows: readonly { readonly title: string; readonly panels: readonly PanelSpec[] }[];
}

const prometheus = { type: 'prometheus', uid: 'wrenn-prometheus' };
const width = 24;
const rowHeight = 8;

// Of a histogram, by a label: what half, one in 20 and one in 100 are slower than.
function quantiles(metric: string, by: string, where = ''): Record<string, string> {
  return Object.fromEntries(
    [0.5, 0.95, 0.99].map((q) => [
      `{{${by}}} p${q * 100}`,
      `histogram_quantile(${q}, sum by (le, ${by}) (rate(${metric}_bucket${where}[$__rate_interval])))`,
    ]),
  );
}

const perSecond = (metric: string, by: string, where = '') =>
  `sum by (${by}) (rate(${metric}${where}[$__rate_interval]))`;
const sum = (metric: string, by: string, where = '') => `sum by (${by}) (${metric}${where})`;

const sandboxes: DashboardSpec = {
  uid: 'wrenn-sandboxes',
  title: 'Wrenn: sandboxes',
  rows: [
    {
      title: 'What there is',
      panels: [
        {
          title: 'Sandboxes by state',
          unit: 'short',
          isStacked: true,
          queries: { '{{state}}': sum('wrenn_scheduler_sandboxes', 'state', '{state!~"destroyed|error"}') },
        },
        {
          title: 'VMs by state',
          unit: 'short',
          isStacked: true,
          queries: { '{{state}}': sum('wrenn_vm_runtime_vms', 'state') },
        },
        {
          title: 'Hosts and creates that wait',
          unit: 'short',
          queries: {
            'hosts {{state}}': sum('wrenn_scheduler_hosts', 'state'),
            'creates waiting': 'sum(wrenn_scheduler_queued_creates)',
          },
        },
        {
          title: 'Network slots',
          unit: 'short',
          isStacked: true,
          queries: { '{{state}}': sum('wrenn_network_slots', 'state') },
        },
      ],
    },
    {
      title: 'How long things take',
      panels: [
        {
          title: 'Operations',
          unit: 's',
          queries: quantiles('wrenn_scheduler_operation_seconds', 'operation', '{outcome="ok"}'),
        },
        {
          title: 'Pause, by stage',
          unit: 's',
          queries: quantiles('wrenn_vm_runtime_stage_seconds', 'stage', '{operation="pause"}'),
        },
        {
          title: 'Resume, by stage',
          unit: 's',
          queries: quantiles('wrenn_vm_runtime_stage_seconds', 'stage', '{operation="restore"}'),
        },
        {
          title: 'Boot, by stage',
          unit: 's',
          queries: quantiles('wrenn_vm_runtime_stage_seconds', 'stage', '{operation="boot"}'),
        },
      ],
    },
    {
      title: 'What goes wrong',
      panels: [
        {
          title: 'Operations',
          unit: 'ops',
          queries: {
            '{{operation}} {{outcome}}': perSecond('wrenn_scheduler_operation_seconds_count', 'operation, outcome'),
          },
        },
        {
          title: 'Failures by reason',
          unit: 'ops',
          queries: {
            '{{operation}} {{reason}}': perSecond('wrenn_scheduler_operation_failures_total', 'operation, reason'),
          },
        },
        {
          title: 'VMs that died',
          unit: 'ops',
          queries: { '{{reason}}': perSecond('wrenn_vm_runtime_vm_deaths_total', 'reason') },
        },
      ],
    },
    {
      title: 'Memory and disk',
      panels: [
        {
          title: 'File systems of the store, free',
          unit: 'percentunit',
          queries: {
            '{{filesystem}} {{instance}}':
              'wrenn_snapshot_store_filesystem_bytes{kind="free"} / ignoring (kind) wrenn_snapshot_store_filesystem_bytes{kind="total"}',
          },
        },
        {
          title: 'What the store holds',
          unit: 'bytes',
          queries: {
            disks: 'sum(wrenn_snapshot_store_disk_bytes)',
            snapshots: 'sum(wrenn_snapshot_store_snapshot_bytes)',
            'memory of guests': 'sum(wrenn_vm_runtime_guest_memory_bytes)',
          },
        },
        {
          title: 'Snapshots',
          unit: 'short',
          isStacked: true,
          queries: { '{{state}}': sum('wrenn_snapshot_store_snapshots', 'state') },
        },
        {
          title: 'Pagers',
          unit: 'Bps',
          queries: { 'memory given': 'sum(rate(wrenn_vm_runtime_pager_copied_bytes_total[$__rate_interval]))' },
        },
        {
          title: 'Faults, time to serve',
          unit: 's',
          queries: {
            p50: 'histogram_quantile(0.5, sum by (le) (rate(wrenn_vm_runtime_pager_fault_seconds_bucket[$__rate_interval])))',
            p99: 'histogram_quantile(0.99, sum by (le) (rate(wrenn_vm_runtime_pager_fault_seconds_bucket[$__rate_interval])))',
          },
        },
      ],
    },
  ],
};

const processes: DashboardSpec = {
  uid: 'wrenn-processes',
  title: 'Wrenn: calls and processes',
  rows: [
    {
      title: 'Calls, by lane',
      panels: [
        { title: 'Until the headers left', unit: 's', queries: quantiles('wrenn_rpc_queued_seconds', 'lane') },
        { title: 'Until the first message', unit: 's', queries: quantiles('wrenn_rpc_first_message_seconds', 'lane') },
        { title: 'Calls at once on a lane', unit: 'short', queries: quantiles('wrenn_rpc_in_flight_calls', 'lane') },
        {
          title: 'Delay of the event loop',
          unit: 's',
          queries: quantiles('wrenn_process_event_loop_delay_seconds', 'service'),
        },
      ],
    },
    {
      title: 'Edge',
      panels: [
        {
          title: 'Answers',
          unit: 'ops',
          queries: { '{{by}} {{status}}': perSecond('wrenn_edge_proxy_answers_total', 'by, status') },
        },
        {
          title: 'Bytes',
          unit: 'Bps',
          queries: { '{{direction}}': perSecond('wrenn_edge_proxy_client_bytes_total', 'direction') },
        },
        {
          title: 'Connections',
          unit: 'short',
          queries: {
            'of clients': 'sum(wrenn_edge_proxy_connections)',
            'kept to guests': 'sum(wrenn_edge_proxy_kept_connections)',
          },
        },
        { title: 'Connecting to guests', unit: 's', queries: quantiles('wrenn_edge_proxy_dial_seconds', 'outcome') },
      ],
    },
    {
      title: 'Processes',
      panels: [
        {
          title: 'Processor',
          unit: 'short',
          queries: { '{{service}}': perSecond('process_cpu_seconds_total', 'service') },
        },
        {
          title: 'Resident memory',
          unit: 'bytes',
          queries: { '{{service}}': sum('process_resident_memory_bytes', 'service') },
        },
        {
          title: 'JavaScript heap',
          unit: 'bytes',
          queries: { '{{service}}': sum('wrenn_process_heap_bytes', 'service') },
        },
        {
          title: 'File descriptors, of the limit',
          unit: 'percentunit',
          queries: { '{{service}}': 'process_open_fds / process_max_fds' },
        },
      ],
    },
    {
      title: 'Database',
      panels: [
        {
          title: 'Connections of the pool',
          unit: 'short',
          isStacked: true,
          queries: { '{{state}}': sum('wrenn_scheduler_database_connections', 'state') },
        },
        { title: 'Waiting for one', unit: 'short', queries: { waiting: 'sum(wrenn_scheduler_database_waiters)' } },
      ],
    },
    {
      title: 'Between the services',
      panels: [
        { title: 'Network service', unit: 's', queries: quantiles('wrenn_network_operation_seconds', 'operation') },
        {
          title: 'Snapshot store',
          unit: 's',
          queries: quantiles('wrenn_snapshot_store_operation_seconds', 'operation'),
        },
        {
          title: 'Gateway',
          unit: 'short',
          queries: { routes: 'sum(wrenn_gateway_routes)', 'lanes to hosts': 'sum(wrenn_gateway_host_lanes)' },
        },
      ],
    },
  ],
};

export const dashboards = { 'wrenn-sandboxes': sandboxes, 'wrenn-processes': processes };

// What Grafana reads. Panels of a row share its width.
export function dashboardJson({ uid, title, rows }: DashboardSpec): string {
  const panels: object[] = [];
  let y = 0;
  for (const row of rows) {
    panels.push({
      id: panels.length + 1,
      type: 'row',
      title: row.title,
      collapsed: false,
      panels: [],
      gridPos: { x: 0, y, w: width, h: 1 },
    });
    const w = Math.floor(width / row.panels.length);
    row.panels.forEach((spec, n) => {
      panels.push(panelOf(spec, panels.length + 1, { x: n * w, y: y + 1, w, h: rowHeight }));
    });
    y += rowHeight + 1;
  }
  const dashboard = {
    uid,
    title,
    tags: ['wrenn'],
    editable: false,
    graphTooltip: 1,
    refresh: '30s',
    time: { from: 'now-1h', to: 'now' },
    schemaVersion: 39,
    version: 1,
    panels,
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}

function panelOf({ title, unit, queries, isStacked }: PanelSpec, id: number, gridPos: object) {
  const stacking = { mode: isStacked ? 'normal' : 'none', group: 'A' };
  return {
    id,
    type: 'timeseries',
    title,
    datasource: prometheus,
    gridPos,
    fieldConfig: {
      defaults: { unit, min: 0, custom: { fillOpacity: isStacked ? 40 : 0, stacking, showPoints: 'never' } },
      overrides: [],
    },
    options: { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi', sort: 'desc' } },
    targets: Object.entries(queries).map(([legend, query], n) => ({
      refId: String.fromCodePoint(65 + n),
      datasource: prometheus,
      expr: query,
      legendFormat: legend,
      exemplar: true,
    })),
  };
}

export const dashboardsDir = join(import.meta.dirname, '../../deploy/grafana/dashboards');

if (import.meta.main) {
  for (const [name, spec] of Object.entries(dashboards)) {
    writeFileSync(join(dashboardsDir, `${name}.json`), dashboardJson(spec));
  }
}
