"""The thin library under the notebooks.

Data flows one way, and no module imports one to its right:
config, statistics -> data -> preprocessing -> corruption -> models -> runs -> training -> paper -> experiments
-> sweep -> claims -> study -> plots, deviations, pages -> report
"""
