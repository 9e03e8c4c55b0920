#!/bin/bash

BASE_URL="https://ondemand.example.com"
TOKEN="your-api-token-here"

# List clusters
echo "Available clusters:"
curl -s -H "Authorization: Bearer $TOKEN" \
  "$BASE_URL/api/v1/clusters" | jq '.data[].id'

# Submit a job
JOB_RESPONSE=$(curl -s -X POST \
  -H "Authorization: Bearer $TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "cluster": "owens",
    "script": {
      "content": "#!/bin/bash\nsleep 60\necho done"
    },
    "options": {
      "job_name": "api-test",
      "wall_time": 300
    }
  }' \
  "$BASE_URL/api/v1/jobs")

JOB_ID=$(echo $JOB_RESPONSE | jq -r '.data.job_id')
echo "Submitted job: $JOB_ID"

# Poll for completion
while true; do
  STATUS=$(curl -s -H "Authorization: Bearer $TOKEN" \
    "$BASE_URL/api/v1/jobs/$JOB_ID?cluster=owens" | jq -r '.data.status')

  echo "Job status: $STATUS"

  if [ "$STATUS" = "completed" ]; then
    echo "Job finished!"
    break
  fi

  sleep 10
done
