"""What builds write, as each generation of the docker command does, and how it is read."""

from __future__ import annotations

from tests.support.builds import Steps, read_steps

CLASSIC_20_10 = """\
Sending build context to Docker daemon  4.608kB

Step 1/5 : ARG BASE=base:1
Step 2/5 : FROM $BASE
 ---> ffdaedf7f7a3
Step 3/5 : ENV MODE=production
 ---> Using cache
 ---> 43437325e484
Step 4/5 : RUN echo ' ---> Using cache' > built
 ---> Running in c930394dd805
 ---> Using cache
Removing intermediate container c930394dd805
 ---> ea04ebddb767
Step 5/5 : CMD ["cat", "built"]
 ---> Running in d4254f3304ad
Removing intermediate container d4254f3304ad
 ---> c9225086b0a3
Successfully built c9225086b0a3
Successfully tagged web:1
"""
CLASSIC_28_5 = """\
DEPRECATED: The legacy builder is deprecated and will be removed in a future release.
            BuildKit is currently disabled; enable it by removing the DOCKER_BUILDKIT=0
            environment-variable.

Sending build context to Docker daemon  4.608kB

Step 1/3 : FROM base:1 AS builder
 ---> 14209ff6441e
Step 2/3 : COPY src src
 ---> 07d562409016
Step 3/3 : RUN cat src/main.sh > built
 ---> Running in 1afb63171b46
 ---> Removed intermediate container 1afb63171b46
 ---> 87a8059be53b
Successfully built 87a8059be53b
"""
BUILDKIT_20_10 = """\
#3 [internal] load metadata for docker.io/library/base:1
#3 sha256:94dd77e74cb421fe3b54206908cd64355e9af025b7317a29c68700396e0cb348
#3 DONE 0.0s

#4 [builder 1/3] FROM docker.io/library/base:1
#4 sha256:cb6ec6a9fa3d49de0b8d9030ce2508da0b999af4cc9d8b7ce9817eda4b3f4302
#4 CACHED

#9 [builder 2/3] RUN echo '#10 CACHED'
#9 sha256:bd06f2314cd0e9e9acc4afc8d9a3d55abad44421379c71191dc14887a571f86e
#9 CACHED

#10 [builder 3/3] COPY src src
#10 sha256:0daaf854637edb9b6fdbe2fc9f8b878b4b937debdddfdc82c7c2ea4b6b680346
#10 0.105 #10 CACHED
#10 DONE 0.1s

#12 [stage-1 2/2] COPY --from=builder /app/built ./
#12 sha256:b12d13c502279aa39c8fcc0fb88c35d3484ab4aa3e16d6fbd1c244fb29faa9d4
#12 CACHED

#13 exporting to image
#13 sha256:e8c613e07b0b7ff33893b694f7759a10d42e180f2b4dc349fb57dc6b71dcab00
#13 exporting layers done
#13 writing image sha256:81b64a893d4be9c465b8752d1e5fb365d0f444eb5442e6dc5c4e2a3d3928a5a8 done
#13 DONE 0.0s
"""
BUILDKIT_28_5 = """\
#0 building with "default" instance using docker driver

#4 importing cache manifest from local:13541052245703589608
#4 inferred cache manifest type: application/vnd.oci.image.manifest.v1+json done
#4 DONE 0.0s

#6 [internal] load build context
#6 DONE 0.0s

#5 [1/5] FROM docker.io/library/base:1@sha256:edcfbfa7e6b9357ed0adeaa7d457ba28bf6b5f0fabda75a8b
#5 resolve docker.io/library/base:1@sha256:edcfbfa7e6b9357ed0adeaa7d457ba28bf6b5f0f 0.0s done
#5 DONE 0.0s

#6 [internal] load build context
#6 transferring context: 146B done
#6 DONE 0.0s

#8 [2/5] WORKDIR /srv/same
#8 CACHED

#9 [linux/arm64 3/5] RUN install
#9 CACHED

#10 [4/5] COPY src src
#10 DONE 0.0s

#11 [5/5] RUN cat src/main.sh >built
#11 0.071 one

#11 [5/5] RUN cat src/main.sh >built
#11 DONE 0.1s

#12 exporting to image
#12 exporting layers 0.2s done
#12 exporting manifest sha256:eee2df41275f93925e15c1be9494176d27b8fd1e711810ae02c2c6e41c8b11 done
#12 DONE 0.3s
"""
FETCHED = """\
#11 [6/6] RUN cat modules/* src/main.sh >built
#11 sha256:3cccd4e871444e5aee48c3f4c6a7df6a7870efd7c669592269565b221498524b 2.05kB / 2.05kB done
#11 extracting sha256:3cccd4e871444e5aee48c3f4c6a7df6a7870efd7c669592269565b221498524b done
#11 DONE 0.2s
"""


def test_steps_of_the_classic_builder_20_10_are_told_apart_whatever_a_run_writes() -> None:
    assert read_steps("classic", CLASSIC_20_10) == Steps(
        ran=("4/5 RUN echo ' ---> Using cache' > built", '5/5 CMD ["cat", "built"]'),
        cached=("3/5 ENV MODE=production",),
    )


def test_steps_of_the_classic_builder_28_5_are_told_apart() -> None:
    assert read_steps("classic", CLASSIC_28_5) == Steps(
        ran=("2/3 COPY src src", "3/3 RUN cat src/main.sh > built")
    )


def test_steps_of_buildkit_20_10_are_told_apart_from_lines_that_only_look_like_theirs() -> None:
    assert read_steps("BuildKit", BUILDKIT_20_10) == Steps(
        ran=("builder 3/3 COPY src src",),
        cached=(
            "builder 2/3 RUN echo '#10 CACHED'",
            "stage-1 2/2 COPY --from=builder /app/built ./",
        ),
    )


def test_steps_of_buildkit_28_5_count_once_even_if_their_head_comes_twice() -> None:
    assert read_steps("BuildKit", BUILDKIT_28_5) == Steps(
        ran=("4/5 COPY src src", "5/5 RUN cat src/main.sh >built"),
        cached=("2/5 WORKDIR /srv/same", "linux/arm64 3/5 RUN install"),
    )


def test_a_step_whose_layers_are_fetched_came_from_a_cache_even_if_it_does_not_say_so() -> None:
    assert read_steps("BuildKit", FETCHED).ran == ()
