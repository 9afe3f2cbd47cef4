// The frame of a suite: a mesh before its tests, the leak check as its last test.
import { afterAll, beforeAll, expect, test } from 'vitest';

import { TestMesh, type TestMeshOptions } from './mesh.ts';
import { ownPlace } from './place.ts';

export interface MeshUnderTest {
  readonly now: TestMesh;
}

export function useMesh(options: Omit<TestMeshOptions, 'place'> = { templates: ['minimal'] }): MeshUnderTest {
  let mesh: TestMesh | undefined;
  beforeAll(async () => {
    mesh = await TestMesh.start({ place: ownPlace(), ...options });
  });
  // For a suite that ends before its last test.
  afterAll(async () => {
    await mesh?.close();
  });
  return {
    get now() {
      if (!mesh) throw new Error('the mesh is not up yet');
      return mesh;
    },
  };
}

// Call it last in a suite: whatever the tests did, nothing of it is left on the machine.
export function endsWithoutLeaks(mesh: MeshUnderTest): void {
  test('leaves nothing behind on the machine', async () => {
    expect(await mesh.now.close()).toEqual([]);
  });
}
