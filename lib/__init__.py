"""The thin library under the notebooks.

Data flows one way, and no module imports one to its right:
config, words, statistics, distributed, provenance -> splits, files, sources, packing, cifar10, imagenet, data
-> preprocessing, corruption -> runs -> inputs, feed -> models, optimizers, engine, training
-> paper, profiles, experiments -> progress, worker, sweep, bench -> criteria, margins, claims, photo_claims, agreement
-> study -> plots, findings, deviations, pages, tables, answers, results, overview -> report
"""
