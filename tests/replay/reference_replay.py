"""
Streams of identifiable transitions, and a replay memory made of plain lists.

Every observation carries the environment it belongs to and its running number, so that a mixed-up index is visible.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from gymnasium import spaces

HEIGHT, WIDTH = 3, 5


def frame(env, number, channels):
    """An image that begins with its environment and number; no frame is empty."""
    image = np.full((channels, HEIGHT, WIDTH), 1 + (7 * number + 13 * env) % 250, dtype=np.uint8)
    image[:, 0, :3] = env, number // 256, number % 256
    return image


class ImageEnv:
    """Stacks of frames, oldest first; an episode opens with zeros, with its first frame repeated, or with others."""

    def __init__(self, env, rng, stack, channels=1):
        self.env, self.rng, self.channels = env, rng, channels
        self.frames = deque(maxlen=stack)
        self.number = 0
        self.space = spaces.Box(0, 255, (stack * channels, HEIGHT, WIDTH), np.uint8)

    def reset(self):
        first = self._next_frame()
        older = [np.zeros_like(first), first, frame(99, self.number, self.channels)][self.rng.integers(3)]
        self.frames.extend([older] * (self.frames.maxlen - 1) + [first])
        return np.concatenate(self.frames)

    def step(self):
        self.frames.append(self._next_frame())
        return np.concatenate(self.frames)

    def _next_frame(self):
        self.number += 1
        return frame(self.env, self.number, self.channels)


class VectorEnv:
    """Vectors that begin with environment and number."""

    def __init__(self, env, rng):
        self.env, self.rng, self.number = env, rng, 0
        self.space = spaces.Box(-1e6, 1e6, (3,), np.float32)

    def step(self):
        self.number += 1
        return np.array([self.env, self.number, self.rng.normal()], dtype=np.float32)

    reset = step


class DictEnv:
    """A stack of images and a vector with the same numbers."""

    def __init__(self, env, rng, stack):
        self.parts = {"image": ImageEnv(env, rng, stack), "vector": VectorEnv(env, rng)}
        self.space = spaces.Dict({key: part.space for key, part in self.parts.items()})

    def reset(self):
        return {key: part.reset() for key, part in self.parts.items()}

    def step(self):
        return {key: part.step() for key, part in self.parts.items()}


def identity(observation):
    """``(environment, number)`` of an observation."""
    if isinstance(observation, dict):
        return identity(observation["vector"])
    numbers = np.asarray(observation)
    if numbers.ndim == 1:
        return int(numbers[0]), int(numbers[1])
    newest = numbers[-1, 0].astype(int)
    return int(newest[0]), int(newest[1] * 256 + newest[2])


@dataclass
class Step:
    """One step of all environments, as ``ReplayBuffer.add`` takes it."""

    obs: object
    next_obs: object
    action: np.ndarray
    reward: np.ndarray
    done: np.ndarray
    infos: list

    def __iter__(self):
        return iter((self.obs, self.next_obs, self.action, self.reward, self.done, self.infos))


def stack_up(observations):
    """One observation per environment -> what a vector environment hands over."""
    if isinstance(observations[0], dict):
        return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
    return np.stack(observations)


@dataclass
class Stream:
    """Episodes of random lengths, terminated, truncated, or broken off by a reset that nobody announces."""

    envs: list
    rng: np.random.Generator
    longest: int = 12
    breaks: bool = True
    observations: list = field(default_factory=list)
    left: list = field(default_factory=list)

    def __post_init__(self):
        self.observations = [env.reset() for env in self.envs]
        self.left = [self._length() for _ in self.envs]

    def _length(self):
        return int(self.rng.integers(1, self.longest + 1))

    def step(self):
        n = len(self.envs)
        following, dones, infos = [env.step() for env in self.envs], np.zeros(n, dtype=bool), [{} for _ in range(n)]
        broken = [self.breaks and self.rng.random() < 0.1 for _ in self.envs]
        nexts = list(following)
        for i, env in enumerate(self.envs):
            self.left[i] -= 1
            if self.left[i] == 0:
                dones[i] = True
                infos[i]["TimeLimit.truncated"] = bool(self.rng.random() < 0.5)
            if dones[i] or broken[i]:
                following[i], self.left[i] = env.reset(), self._length()
        step = Step(
            stack_up(self.observations),
            stack_up(nexts),
            self.rng.integers(4, size=n),
            self.rng.normal(size=n).astype(np.float32),
            dones,
            infos,
        )
        self.observations = following
        return step


@dataclass
class Transition:
    """One transition of one environment, observations whole."""

    obs: object
    action: int
    reward: float
    next_obs: object
    terminated: bool
    ended: bool


class SlowReplay:
    """For each environment a list of episodes, each a list of transitions. Right by being simple."""

    def __init__(self, n_envs, n_rows):
        self.n_rows = n_rows
        self.episodes = [[[]] for _ in range(n_envs)]

    def add(self, step):
        for env, episodes in enumerate(self.episodes):
            obs, next_obs = self._of(step.obs, env), self._of(step.next_obs, env)
            last = episodes[-1]
            if last and (last[-1].ended or identity(last[-1].next_obs) != identity(obs)):
                episodes.append([])
            truncated = step.infos[env].get("TimeLimit.truncated", False)
            done = bool(step.done[env])
            episodes[-1].append(
                Transition(obs, int(step.action[env]), float(step.reward[env]), next_obs, done and not truncated, done)
            )

    @staticmethod
    def _of(observations, env):
        return {k: v[env] for k, v in observations.items()} if isinstance(observations, dict) else observations[env]

    def samples(self, n_steps, gamma):
        """``identity -> (obs, action, reward, next_obs, discount)`` of everything that is still stored."""
        samples = {}
        for episodes in self.episodes:
            stored = [(episode, i) for episode in episodes for i in range(len(episode))][-self.n_rows :]
            for episode, i in stored:
                window = episode[i : i + n_steps]  # a list ends where its episode ends, or at the newest transition
                reward = sum(gamma**k * transition.reward for k, transition in enumerate(window))
                discount = 0.0 if window[-1].terminated else gamma ** len(window)
                first = episode[i]
                samples[identity(first.obs)] = first.obs, first.action, reward, window[-1].next_obs, discount
        return samples


def per_sample(observations, i):
    """Observation ``i`` of a batch of tensors, as arrays."""
    if isinstance(observations, dict):
        return {key: value[i].numpy() for key, value in observations.items()}
    return observations[i].numpy()


def assert_same_observation(given, expected):
    if not isinstance(expected, dict):
        given, expected = {"": given}, {"": expected}
    assert given.keys() == expected.keys()
    for key, value in expected.items():
        assert given[key].dtype == value.dtype
        np.testing.assert_array_equal(given[key], value)


def assert_equals_reference(buffer, slow, n_steps, gamma):
    """Draw until everything has been drawn, and compare every field of every transition."""
    expected = slow.samples(n_steps, gamma)
    batch = buffer.sample(30 * len(expected))
    _, first = np.unique(batch.indices, return_index=True)
    seen = set()
    for i in first:
        observation = per_sample(batch.observations, i)
        obs, action, reward, next_obs, discount = expected[identity(observation)]
        seen.add(identity(observation))
        assert batch.indices[i] % buffer.n_envs == identity(observation)[0]
        assert_same_observation(observation, obs)
        assert_same_observation(per_sample(batch.next_observations, i), next_obs)
        assert int(batch.actions[i]) == action
        np.testing.assert_allclose(float(batch.rewards[i]), reward, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(float(batch.discounts[i]), discount, rtol=1e-6)
    assert len(first) == len(expected)  # no transition under two indices
    assert seen == set(expected)
