"""The thin library under the notebooks.

Data flows one way, and no module imports one to its right:
config -> data -> preprocessing, corruption -> models -> runs -> training -> sweep ->
experiments -> paper, claims -> plots -> report
"""
