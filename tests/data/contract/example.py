import requests

BASE_URL = "https://ondemand.example.com"
TOKEN = "your-api-token-here"

headers = {
    "Authorization": f"Bearer {TOKEN}",
    "Content-Type": "application/json"
}

# List clusters
response = requests.get(f"{BASE_URL}/api/v1/clusters", headers=headers)
clusters = response.json()["data"]
print(f"Available clusters: {[c['id'] for c in clusters]}")

# Submit a job
job_data = {
    "cluster": "owens",
    "script": {
        "content": "#!/bin/bash\necho 'Hello from API'",
        "workdir": "/users/alice/project"
    },
    "options": {
        "job_name": "api-test",
        "wall_time": 300
    }
}

response = requests.post(
    f"{BASE_URL}/api/v1/jobs",
    headers=headers,
    json=job_data
)

if response.status_code == 201:
    job = response.json()["data"]
    print(f"Submitted job: {job['job_id']}")
else:
    print(f"Error: {response.json()['message']}")

# Check job status
job_id = job["job_id"]
response = requests.get(
    f"{BASE_URL}/api/v1/jobs/{job_id}?cluster=owens",
    headers=headers
)
status = response.json()["data"]["status"]
print(f"Job {job_id} status: {status}")

# Cancel job
response = requests.delete(
    f"{BASE_URL}/api/v1/jobs/{job_id}?cluster=owens",
    headers=headers
)
print(f"Job cancelled: {response.json()['data']['status']}")
