"""The sidecar: an agent beside the build, with jobs, a page, and an API over HTTP.

Its own process moves no data: each job is a process of its own, so that whoever asks is answered at
once, whatever a job does.
"""
