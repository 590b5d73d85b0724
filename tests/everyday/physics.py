"""What do people simulate?  Oscillators, orbits, heat, waves, gases, fields, optics."""

from __future__ import annotations

import numpy as np

from tests.everyday.case import everyday, integers, mask, number, positive, uniform


@everyday("n", "n", number(9.81))
def mechanical_energy(x, v, g):
    return 0.5 * v**2 + g * x


@everyday("n 3", positive("n"))
def gravity(positions, masses):
    d = positions[None, :, :] - positions[:, None, :]
    r2 = (d**2).sum(axis=-1) + 0.01
    return (masses[None, :, None] * d / r2[..., None] ** 1.5).sum(axis=1)


@everyday("n 3")
def lennard_jones(r):
    d = r[:, None] - r[None]
    r2 = np.sum(d * d, axis=-1) + np.eye(len(r)) + 0.5
    s6 = 1 / r2**3
    return np.triu(4 * (s6**2 - s6), k=1).sum()


@everyday("n 2", "n")
def coulomb_energy(positions, charges):
    d = np.linalg.norm(positions[:, None] - positions[None] + 1e-2, axis=2)
    energy = np.outer(charges, charges) / d
    return 0.5 * np.sum(energy * (1 - np.eye(len(charges))))


@everyday("", "")
def verlet_oscillator(x, v):
    dt = 0.1
    for _ in range(10):
        a = -x
        x = x + v * dt + 0.5 * a * dt**2
        v = v + 0.5 * (a - x) * dt
    return x, v


@everyday("4", slow=True)
def runge_kutta_pendulum(state):
    def f(y):
        return np.array([y[2], y[3], -np.sin(y[0]), -np.sin(y[1]) - 0.1 * y[3]])

    h = 0.1
    for _ in range(3):
        k1 = f(state)
        k2 = f(state + h / 2 * k1)
        k3 = f(state + h / 2 * k2)
        k4 = f(state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state


@everyday("3")
def lorenz_step(state):
    x, y, z = state
    dot = np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])
    return state + 0.01 * dot


@everyday("n")
def heat_step(u):
    inner = u[1:-1] + 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
    return np.concatenate([u[:1], inner, u[-1:]])


@everyday("h w")
def heat_step_2d(u):
    lap = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] - 4 * u[1:-1, 1:-1]
    return np.pad(u[1:-1, 1:-1] + 0.2 * lap, 1)


@everyday("n", "n")
def wave_step(u, before):
    lap = np.roll(u, 1) - 2 * u + np.roll(u, -1)
    return 2 * u - before + 0.25 * lap


@everyday("n")
def upwind_advection(u):
    for _ in range(4):
        u = u - 0.5 * (u - np.roll(u, 1))
    return u


@everyday("n")
def burgers_flux(u):
    right = np.roll(u, -1)
    flux = np.where(u + right > 0, 0.5 * u**2, 0.5 * right**2)
    return u - 0.1 * (flux - np.roll(flux, 1))


@everyday(uniform("h w"), uniform("h w"))
def gray_scott(u, v):
    def lap(a):
        return np.roll(a, 1, 0) + np.roll(a, -1, 0) + np.roll(a, 1, 1) + np.roll(a, -1, 1) - 4 * a

    reaction = u * v * v
    du = 0.16 * lap(u) - reaction + 0.035 * (1 - u)
    dv = 0.08 * lap(v) + reaction - 0.1 * v
    return u + du, v + dv


@everyday("h w", number(0.44), smooth=False)
def ising_energy(field, beta):
    spins = np.where(field > 0, 1, -1)
    bonds = spins * np.roll(spins, 1, axis=0) + spins * np.roll(spins, 1, axis=1)
    return -beta * bonds.sum(), np.abs(spins.mean())


@everyday(positive("n"), positive(""))
def maxwell_boltzmann(v, t):
    return np.sqrt(2 / np.pi) * v**2 * np.exp(-(v**2) / (2 * t)) / t**1.5


@everyday(positive("n"), number(5800.0))
def planck(wavelength, temperature):
    x = 14387.77 / (wavelength * temperature)
    return 1 / (wavelength**5 * np.expm1(x))


@everyday(uniform("n", -2, 2), positive(""))
def fermi_dirac(energy, kt):
    return 1 / (np.exp(energy / kt) + 1)


@everyday(positive("n"))
def partition_function(energies):
    beta = 0.7
    w = np.exp(-beta * (energies - energies.min()))
    p = w / w.sum()
    mean = (p * energies).sum()
    return mean, (p * (energies - mean) ** 2).sum() * beta**2, -(p * np.log(p)).sum()


@everyday(positive("n"), positive("n"))
def van_der_waals(t, v):
    return 8.314 * t / (v + 0.2 - 0.0428) - 0.37 / v**2


@everyday(uniform("n", 0.01, 0.7))
def snell(theta):
    return np.arcsin(np.sin(theta) / 1.33), np.arcsin(1 / 1.33)


@everyday(uniform("n", 0.1, 1.2))
def fresnel(theta):
    n1, n2 = 1.0, 1.5
    ci = np.cos(theta)
    ct = np.sqrt(1 - (n1 / n2 * np.sin(theta)) ** 2)
    rs = ((n1 * ci - n2 * ct) / (n1 * ci + n2 * ct)) ** 2
    rp = ((n1 * ct - n2 * ci) / (n1 * ct + n2 * ci)) ** 2
    return 0.5 * (rs + rp)


@everyday(uniform("n", -0.4, 0.4))
def double_slit(angle):
    b, d = np.pi * 2 * np.sin(angle), np.pi * 8 * np.sin(angle)
    return np.cos(d) ** 2 * np.sinc(b / np.pi) ** 2


@everyday("n 3", "n 3", "3")
def lorentz_force(e, v, b):
    return 1.6 * (e + np.cross(v, b))


@everyday("n 3", "m 3")
def biot_savart(wire, points):
    dl = np.diff(wire, axis=0)
    mid = 0.5 * (wire[1:] + wire[:-1])
    r = points[:, None] - mid
    return (np.cross(dl, r) / (np.sum(r**2, axis=-1, keepdims=True) + 0.1) ** 1.5).sum(1)


@everyday(uniform("n", 0.0, 6.0), uniform("", 0.1, 0.6))
def kepler(mean_anomaly, e):
    anomaly = mean_anomaly
    for _ in range(6):
        step = (anomaly - e * np.sin(anomaly) - mean_anomaly) / (1 - e * np.cos(anomaly))
        anomaly = anomaly - step
    return 2 * np.arctan2(
        np.sqrt(1 + e) * np.sin(anomaly / 2), np.sqrt(1 - e) * np.cos(anomaly / 2)
    )


@everyday("n 3", positive("n"))
def center_of_mass_and_inertia(r, m):
    com = (m[:, None] * r).sum(0) / m.sum()
    d = r - com
    return com, np.einsum("n,nk,nk->", m, d, d) * np.eye(3) - np.einsum("n,ni,nj->ij", m, d, d)


@everyday("n 3", "n 3", positive("n"))
def angular_momentum(r, v, m):
    return np.sum(np.cross(r, m[:, np.newaxis] * v), axis=0)


@everyday(uniform("3", -0.5, 0.5))
def lorentz_factor(velocity):
    beta2 = velocity @ velocity
    gamma = 1 / np.sqrt(1 - beta2)
    return gamma, np.concatenate(([gamma], gamma * velocity))


@everyday("n 4")
def invariant_mass(p):
    metric = np.diag([1.0, -1.0, -1.0, -1.0])
    return np.einsum("ni,ij,nj->n", p, metric, p)


@everyday("n")
def quantum_expectation(psi):
    x = np.linspace(-5, 5, len(psi))
    norm = np.trapezoid(psi**2, x)
    return np.trapezoid(x * psi**2, x) / norm


@everyday("n n")
def hamiltonian_energy(psi):
    n = psi.shape[0]
    h = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    return np.einsum("ij,jk,ki->", psi.T, h, psi)


@everyday("n", "n")
def simple_harmonic_fit(t, y):
    basis = np.stack([np.cos(t), np.sin(t), np.ones_like(t)], axis=1)
    return basis.T @ y, basis.T @ basis


@everyday(positive("n"))
def projectile_range(v):
    angles = np.deg2rad(np.arange(15, 90, 15))
    return v[:, None] ** 2 * np.sin(2 * angles) / 9.81


@everyday(uniform("n", 1, 100))
def reynolds_friction(re):
    laminar = 64 / re
    turbulent = 0.316 / re**0.25
    return np.where(re < 50, laminar, turbulent)


@everyday(uniform("n", 200, 300), smooth=False)
def celsius_table(kelvin):
    celsius = kelvin - 273.15
    return np.round(celsius, 1), np.floor(celsius).astype(np.int32), celsius < 0


@everyday(positive("n"), positive("n"))
def parallel_resistance(a, b):
    return 1 / (1 / a + 1 / b), np.reciprocal(np.reciprocal(a) + np.reciprocal(b))


@everyday("n", "n 3")
def random_walk(steps, directions):
    unit = directions / np.linalg.norm(directions, axis=1)[:, None]
    path = (steps[:, None] * unit).cumsum(axis=0)
    return path, (path[-1] ** 2).sum()


@everyday(mask("n"), positive("n"))
def half_life(alive, age):
    return np.log(2) * np.where(alive, age, 0).sum() / np.maximum((~alive).sum(), 1)


@everyday(integers("n", 1, 8), smooth=False)
def hydrogen_levels(n):
    return -13.6 / n**2, n * (n + 1) // 2, n % 2 == 0
