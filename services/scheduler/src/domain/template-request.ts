import { invalidField } from '@wrenn/kit/errors';
import { requireName } from '@wrenn/kit/validate';
import type { Template as TemplateMessage } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';

import type { Template } from './sandbox.ts';
import { requireDiskBytes, requireMemoryBytes, requireVcpuCount } from './vm-size.ts';

const userPattern = /^[a-z_][a-z0-9_-]{0,31}$/;

export function requireTemplate(template: TemplateMessage | undefined): Template {
  if (!template) throw invalidField('template', 'must be set');
  const { description, defaultUser } = template;
  if (description.length > 1000 || description.includes('\0')) {
    throw invalidField('template.description', 'must be at most 1000 characters without NUL');
  }
  if (defaultUser !== '' && !userPattern.test(defaultUser)) {
    throw invalidField('template.default_user', 'must be a user name: 1 to 32 characters a-z, 0-9, _, -');
  }
  return {
    name: requireName(template.name, 'template.name'),
    image: requireName(template.image, 'template.image'),
    description,
    vcpuCount: requireVcpuCount(template.vcpuCount, 'template.vcpu_count'),
    memoryBytes: requireMemoryBytes(template.memoryBytes, 'template.memory_bytes'),
    diskBytes: requireDiskBytes(template.diskBytes, 'template.disk_bytes'),
    defaultUser,
  };
}
